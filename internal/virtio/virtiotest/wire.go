//go:build linux

package virtiotest

// The requests of the front end, QEMU, that byre's devices know (Vhost-user
// Protocol, "Front-end message types").
const (
	GetFeatures         = 1
	SetFeatures         = 2
	SetOwner            = 3
	ResetOwner          = 4
	SetMemTable         = 5
	SetVringNum         = 8
	SetVringAddr        = 9
	SetVringBase        = 10
	GetVringBase        = 11
	SetVringKick        = 12
	SetVringCall        = 13
	SetVringErr         = 14
	GetProtocolFeatures = 15
	SetProtocolFeatures = 16
	GetQueueNum         = 17
	SetVringEnable      = 18
	GetConfig           = 24
	SetConfig           = 25
	GetMaxMemSlots      = 36
	AddMemReg           = 37
	RemMemReg           = 38
)

// Message flags.
const (
	Version   = 1
	Reply     = 1 << 2
	NeedReply = 1 << 3
)

const headerLen = 12

// Features that rings and vhost-user have.
const (
	FeatIndirect = 1 << 28
	FeatEvents   = 1 << 29
	FeatProtocol = 1 << 30
	FeatVersion1 = 1 << 32
)
