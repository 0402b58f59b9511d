package hns

// OpenDir returns the network in a folder, and OpenSessionDir a session in it.
func OpenDir(dir string) Network { return &local{dir: dir} }

func OpenSessionDir(dir string) (Session, error) { return openSession(dir) }

var StateDir = stateDir

var TapName = tapName
