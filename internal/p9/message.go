package p9

// Types of messages: what a client sends. The answer has the next number.
const (
	rLerror      = 7 // the answer to a request that fails
	tStatfs      = 8
	tLopen       = 12
	tLcreate     = 14
	tSymlink     = 16
	tMknod       = 18
	tReadlink    = 22
	tGetattr     = 24
	tSetattr     = 26
	tXattrwalk   = 30
	tXattrcreate = 32
	tReaddir     = 40
	tFsync       = 50
	tLock        = 52
	tGetlock     = 54
	tLink        = 70
	tMkdir       = 72
	tRenameat    = 74
	tUnlinkat    = 76
	tVersion     = 100
	tAttach      = 104
	tFlush       = 108
	tWalk        = 110
	tRead        = 116
	tWrite       = 118
	tClunk       = 120
	tRemove      = 122
)

const (
	version = "9P2000.L"

	noTag uint16 = 0xffff     // of tVersion
	noFid uint32 = 0xffffffff // no authentication
	noUID uint32 = 0xffffffff // no user

	headerSize  = 7              // size[4] type[1] tag[2]
	readHeader  = headerSize + 4 // and count[4], then data
	writeHeader = headerSize + 4 + 8 + 4
	maxWalk     = 16
	minMessage  = 4 << 10 // the least msize that a client may ask for

	// maxRequest is the longest request other than a tWrite: a tWalk of 16
	// names, a tSymlink of 4096 bytes.
	maxRequest = 4608
)

// Bits of a qid's type.
const (
	qidDir     = 0x80
	qidSymlink = 0x02
	qidFile    = 0x00
)

// A qid names a file: type[1] version[4] path[8].
type qid struct {
	typ     uint8
	version uint32
	path    uint64
}

// Bits of tSetattr's valid.
const (
	setMode = 1 << iota
	setUID
	setGID
	setSize
	setATime
	setMTime
	setCTime
	setATimeValue // and not the present time
	setMTimeValue
)

// statsBasic are the members of an answer to tGetattr that are valid: all but
// the time of birth, the generation and the version of the data.
const statsBasic = 0x7ff

// Types, flags and results of locks.
const (
	lockRead, lockWrite, lockUnlock = 0, 1, 2

	lockFlagBlock = 1

	lockSuccess, lockBlocked = 0, 1
)

// Flags of tLopen and tLcreate, the same on every architecture.
const (
	openAccess    = 3
	openWriteOnly = 1
	openReadWrite = 2
	openExclusive = 0o200
	openTruncate  = 0o1000
	openAppend    = 0o2000
	openDataSync  = 0o10000
	openDirectory = 0o200000
	openNoATime   = 0o1000000
	openSync      = 0o4000000
)

// unlinkDirectory is the flag of tUnlinkat that removes a folder.
const unlinkDirectory = 0x200

// fsMagic is what a file system of this protocol reports as its type.
const fsMagic = 0x01021997
