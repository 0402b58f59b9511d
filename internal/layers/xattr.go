package layers

import (
	"fmt"
	"strings"
)

const (
	xattrRecord   = "SCHILY.xattr." // PAX records that hold extended attributes
	xattrOpaque   = "trusted.overlay.opaque"
	xattrACL      = "system.posix_acl_"
	maxXattrName  = 255
	maxXattrValue = 4000 // attributes of a file share one block
)

// cleanXattrs returns the records of extended attributes that go to the disk.
// Those of overlayfs are dropped: an image must not steer the union that it
// is part of. Namespaces that ext4 does not have are dropped too.
func cleanXattrs(records map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for record, value := range records {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if !ok || !keepXattr(name) {
			continue
		}
		if len(name) > maxXattrName || len(value) > maxXattrValue {
			return nil, fmt.Errorf("attribute %.80q %w", name, ErrTooLarge)
		}
		if strings.HasPrefix(name, xattrACL) {
			acl, err := diskACL(value)
			if err != nil {
				return nil, fmt.Errorf("attribute %s: %w", name, err)
			}
			value = acl
		}
		out[record] = value
	}
	return out, nil
}

func keepXattr(name string) bool {
	if name == xattrACL+"access" || name == xattrACL+"default" {
		return true
	}
	space, rest, _ := strings.Cut(name, ".")
	switch space {
	case "user", "trusted":
		return rest != "" && rest != "overlay" && !strings.HasPrefix(rest, "overlay.")
	case "security":
		return rest != ""
	}
	return false
}

// diskACL translates a POSIX ACL from the form that system calls use (version
// 2, each entry with an id) to the one of ext4 on disk (version 1, an id only
// where it means something). See linux/posix_acl_xattr.h and fs/ext4/acl.h.
func diskACL(value string) (string, error) {
	const head, entry = 4, 8
	b := []byte(value)
	if len(b) < head || (len(b)-head)%entry != 0 || le.Uint32(b) != 2 {
		return "", fmt.Errorf("%w: access control list", ErrInvalid)
	}
	out := le.AppendUint32(nil, 1)
	for b = b[head:]; len(b) > 0; b = b[entry:] {
		switch tag := le.Uint16(b); tag {
		case 0x01, 0x04, 0x10, 0x20: // owner, owning group, mask, others
			out = append(out, b[:4]...)
		case 0x02, 0x08: // a user, a group
			out = append(out, b[:entry]...)
		default:
			return "", fmt.Errorf("%w: tag %#x in access control list", ErrInvalid, tag)
		}
	}
	return string(out), nil
}

// callACL is the inverse of diskACL.
func callACL(disk string) string {
	b := []byte(disk)
	out := le.AppendUint32(nil, 2)
	for b = b[min(4, len(b)):]; len(b) >= 4; {
		out = append(out, b[:4]...)
		tag := le.Uint16(b)
		if b = b[4:]; (tag == 0x02 || tag == 0x08) && len(b) >= 4 {
			out, b = append(out, b[:4]...), b[4:]
			continue
		}
		out = le.AppendUint32(out, 1<<32-1) // no id
	}
	return string(out)
}
