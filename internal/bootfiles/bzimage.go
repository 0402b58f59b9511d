package bootfiles

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/xi2/xz"
)

// An unusableError says why a good kernel image gives no vmlinux: the folder
// does without.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return e.reason }

// Offsets in a bzImage's setup header, from the kernel's
// Documentation/x86/boot.rst.
const (
	offSetupSects    = 0x1f1
	offBootFlag      = 0x1fe
	offMagic         = 0x202
	offProtocol      = 0x206
	offKernelVersion = 0x20e
	offPayload       = 0x248
	offPayloadLength = 0x24c
	headerEnd        = 0x268
)

// maxVmlinux limits the unpacked kernel.
const maxVmlinux = 512 << 20

// checkImage refuses what is not a bzImage for x86-64 of a protocol that names
// its payload (2.08, Linux 2.6.26).
func checkImage(b []byte) error {
	if len(b) < headerEnd || string(b[offMagic:offMagic+4]) != "HdrS" ||
		binary.LittleEndian.Uint16(b[offBootFlag:]) != 0xaa55 {
		if bytes.HasPrefix(b, []byte("\x7fELF")) {
			return errors.New("not a bzImage but an ELF file: give the compressed image, arch/x86/boot/bzImage")
		}
		return errors.New("not a bzImage")
	}
	if v := binary.LittleEndian.Uint16(b[offProtocol:]); v < 0x208 {
		return fmt.Errorf("a bzImage of boot protocol %d.%02d, older than 2.08", v>>8, v&0xff)
	}
	return nil
}

var releasePattern = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~_-]*$`)

// release is the kernel's release, from the version text in the image.
func release(b []byte) (string, error) {
	if err := checkImage(b); err != nil {
		return "", err
	}
	at := int(binary.LittleEndian.Uint16(b[offKernelVersion:])) + 0x200
	if at == 0x200 || at >= len(b) {
		return "", errors.New("a bzImage without a version text")
	}
	text := b[at:min(len(b), at+128)]
	word, _, _ := strings.Cut(string(text), " ")
	word, _, _ = strings.Cut(word, "\x00")
	if !releasePattern.MatchString(word) {
		return "", fmt.Errorf("a bzImage with a bad version text: %q", word)
	}
	return word, nil
}

// payload unpacks the kernel proper. The payload's last four bytes are its
// unpacked size.
func payload(ctx context.Context, b []byte) ([]byte, error) {
	if err := checkImage(b); err != nil {
		return nil, err
	}
	sects := int64(b[offSetupSects])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + int64(binary.LittleEndian.Uint32(b[offPayload:]))
	length := int64(binary.LittleEndian.Uint32(b[offPayloadLength:]))
	if length < 8 || start+length > int64(len(b)) {
		return nil, errors.New("a damaged bzImage: its payload is not in the file")
	}
	p := b[start : start+length]
	size := int64(binary.LittleEndian.Uint32(p[length-4:]))
	if size > maxVmlinux {
		return nil, fmt.Errorf("a damaged bzImage: a payload of %d bytes", size)
	}
	r, err := payloadReader(&contextReader{ctx, bytes.NewReader(p[:length-4])}, p)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	n, err := io.Copy(out, io.LimitReader(r, size+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking the kernel: %w", err)
	}
	if n != size {
		return nil, fmt.Errorf("unpacking the kernel: got %d bytes, want %d", n, size)
	}
	return out.Bytes(), nil
}

// payloadReader finds the payload's compression by its first bytes.
func payloadReader(r io.Reader, p []byte) (io.Reader, error) {
	for _, c := range []struct{ magic, name string }{
		{"\x28\xb5\x2f\xfd", "zstd"}, {"\x02\x21\x4c\x18", "lz4"}, {"\x5d\x00\x00", "lzma"},
		{"\x89LZO", "lzo"}, {"BZh", "bzip2"},
	} {
		if bytes.HasPrefix(p, []byte(c.magic)) {
			return nil, &unusableError{"the kernel is compressed with " + c.name + ", only xz and gzip can be unpacked"}
		}
	}
	switch {
	case bytes.HasPrefix(p, []byte("\xfd7zXZ\x00")):
		return xz.NewReader(r, 0)
	case bytes.HasPrefix(p, []byte("\x1f\x8b")):
		return gzip.NewReader(r)
	}
	return nil, &unusableError{"the kernel's compression is not known"}
}
