package bridge

import "fmt"

// Version is the only protocol version.
const Version uint32 = 4

// NilContainer is the container id that means the virtual machine itself.
const NilContainer = "00000000-0000-0000-0000-000000000000"

// A Type says what the body of a message is: kind (4 bits), category (8),
// procedure (12) and version of the message (8).
type Type uint32

const (
	kindRequest  Type = 0x10000000
	kindResponse Type = 0x20000000
	kindNotify   Type = 0x30000000
	kindMask     Type = 0xf0000000

	categorySystem Type = 0x00100000

	typeNotification = kindNotify | categorySystem | 0x0101
)

// Response returns the type of the answers to requests of type t.
func (t Type) Response() Type { return t&^kindMask | kindResponse }

func (t Type) isRequest() bool  { return t&kindMask == kindRequest }
func (t Type) isResponse() bool { return t&kindMask == kindResponse }
func (t Type) isNotify() bool   { return t&kindMask == kindNotify }

var names = map[Type]string{
	0x0101: "Create",
	0x0201: "Start",
	0x0301: "ShutdownGraceful",
	0x0401: "ShutdownForced",
	0x0501: "ExecuteProcess",
	0x0601: "WaitForProcess",
	0x0701: "SignalProcess",
	0x0801: "ResizeConsole",
	0x0901: "GetProperties",
	0x0a01: "ModifySettings",
	0x0b01: "NegotiateProtocol",
	0x0c01: "DumpStacks",
	0x0d01: "DeleteContainerState",
}

// String returns the name of the procedure, or the number in hexadecimal.
func (t Type) String() string {
	if t == typeNotification {
		return "ContainerNotification"
	}
	if n := names[t&^kindMask&^categorySystem]; n != "" && t&^kindMask&categorySystem != 0 {
		return n
	}
	return fmt.Sprintf("%#08x", uint32(t))
}

// An RPC is a procedure with the types of its request and its response.
type RPC[Req, Resp any] struct{ Type Type }

// The procedures. A guest need not have all of them: one without handler is
// answered with [ErrNotImplemented].
var (
	Create               = RPC[CreateRequest, Response]{request(0x0101)}
	Start                = RPC[Request, Response]{request(0x0201)}
	ShutdownGraceful     = RPC[Request, Response]{request(0x0301)}
	ShutdownForced       = RPC[Request, Response]{request(0x0401)}
	ExecuteProcess       = RPC[ExecuteProcessRequest, ExecuteProcessResponse]{request(0x0501)}
	WaitForProcess       = RPC[WaitForProcessRequest, WaitForProcessResponse]{request(0x0601)}
	SignalProcess        = RPC[SignalProcessRequest, Response]{request(0x0701)}
	ResizeConsole        = RPC[ResizeConsoleRequest, Response]{request(0x0801)}
	GetProperties        = RPC[GetPropertiesRequest, GetPropertiesResponse]{request(0x0901)}
	ModifySettings       = RPC[ModifySettingsRequest, Response]{request(0x0a01)}
	DumpStacks           = RPC[Request, DumpStacksResponse]{request(0x0c01)}
	DeleteContainerState = RPC[Request, Response]{request(0x0d01)}

	negotiate = RPC[negotiateRequest, negotiateResponse]{request(0x0b01)}
)

func request(t Type) Type { return kindRequest | categorySystem | t }
