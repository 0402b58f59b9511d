package place

// Version numbers what an engine and an agent must agree on and have no
// protocol to talk about: where devices are. It is raised when a place moves,
// so that an engine can refuse the boot files of another byre before they
// fail in the middle of a boot.
const Version = 1

// Marker has the version in a form that is found in the file of a program: an
// agent that prints it has it. Package bootfiles writes it down beside the
// agent. It must be changed together with Version.
const Marker = "byre-places:1;"
