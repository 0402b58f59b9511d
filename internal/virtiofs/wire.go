package virtiofs

// Opcodes of requests. Others of the protocol's are not served.
const (
	opLookup        = 1
	opForget        = 2 // has no answer
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opGetlk         = 31
	opSetlk         = 32
	opSetlkw        = 33
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opBmap          = 37
	opDestroy       = 38
	opIoctl         = 39
	opPoll          = 40
	opBatchForget   = 42 // has no answer
	opFallocate     = 43
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSetupMapping  = 48
	opSyncfs        = 50
	opTmpfile       = 51

	opCount = 52
)

// The version of the protocol.
const (
	majorVersion = 7
	minorVersion = 37 // the latest that is spoken
	minorOldest  = 31
)

// Flags of INIT that are spoken of here.
const (
	initAsyncRead      = 1 << 0
	initPosixLocks     = 1 << 1
	initAtomicTruncate = 1 << 3
	initBigWrites      = 1 << 5
	initFlockLocks     = 1 << 10
	initAutoInvalData  = 1 << 12
	initAsyncDIO       = 1 << 15
	initParallelDirops = 1 << 18
	initMaxPages       = 1 << 22
	initKillprivV2     = 1 << 28
)

// initFlags are what the server does if the guest does.
const initFlags = initAsyncRead | initPosixLocks | initAtomicTruncate | initBigWrites | initFlockLocks |
	initAutoInvalData | initAsyncDIO | initParallelDirops | initMaxPages | initKillprivV2

// Bits of SETATTR's valid.
const (
	attrMode        = 1 << 0
	attrUID         = 1 << 1
	attrGID         = 1 << 2
	attrSize        = 1 << 3
	attrATime       = 1 << 4
	attrMTime       = 1 << 5
	attrHandle      = 1 << 6
	attrATimeNow    = 1 << 7
	attrMTimeNow    = 1 << 8
	attrLockOwner   = 1 << 9
	attrCTime       = 1 << 10
	attrKillSUIDGID = 1 << 11
)

// Flags of single requests.
const (
	getattrHandle = 1 << 0 // GETATTR: fh is valid

	openKillSUIDGID = 1 << 0 // OPEN, CREATE

	writeCache       = 1 << 0 // WRITE: from the page cache, of whichever handle
	writeKillSUIDGID = 1 << 2

	fsyncDataOnly = 1 << 0 // FSYNC

	lockFlock = 1 << 0 // SETLK: the lock is one of flock, not of fcntl
)

// Lengths on the wire.
const (
	inHeaderSize  = 40
	outHeaderSize = 16
	writeInSize   = 40
	direntSize    = 24 // and a name, rounded up to 8

	maxName   = 255
	maxTarget = 4095    // of a symbolic link
	maxPages  = 256     // of a request's data
	maxData   = 1 << 20 // the same in bytes

	// maxArgs is the longest request without its header and without data of a
	// file: a SETXATTR of 64 KiB, its name, and what is before them.
	maxArgs = 68 << 10
)

// rootID is the number of the root of the file system.
const rootID = 1

// A header begins every request: len[4] opcode[4] unique[8] nodeid[8] uid[4]
// gid[4] pid[4] total_extlen[2] padding[2]
type header struct {
	len    uint32
	opcode uint32
	unique uint64
	node   uint64
	uid    uint32
	gid    uint32
	pid    uint32 // the thread that asks, as the guest counts them
}

func (d *decoder) header() header {
	h := header{len: d.u32(), opcode: d.u32(), unique: d.u64(), node: d.u64(), uid: d.u32(), gid: d.u32(), pid: d.u32()}
	d.u32()
	return h
}
