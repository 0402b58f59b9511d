package hcsschema

// A RequestType says what a request does to a resource. Guests compare it
// case-sensitively.
type RequestType string

// The request types.
const (
	Add    RequestType = "Add"
	Remove RequestType = "Remove"
	PreAdd RequestType = "PreAdd" // of a [NetworkModifyRequest] only
	Update RequestType = "Update"
)

// ModifySettingRequest changes one resource of a running system.
//
// ResourcePath names the resource; it is empty when only the guest is asked.
// Settings has the type that follows from ResourcePath, for example
// [Attachment], and is absent where the path says it all. GuestRequest is a
// [GuestRequest] or its equivalent; the real service passes it on unread.
type ModifySettingRequest struct {
	ResourcePath string      `json:"ResourcePath,omitempty"`
	RequestType  RequestType `json:"RequestType,omitempty"`
	Settings     any         `json:"Settings,omitempty"`
	GuestRequest any         `json:"GuestRequest,omitempty"`
}
