package hns

import (
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is what a rule of nftables matches, and what becomes of that.
type rule []expr.Any

func accept(parts ...[]expr.Any) rule {
	return append(join(parts...), &expr.Verdict{Kind: expr.VerdictAccept})
}

func drop(parts ...[]expr.Any) rule {
	return append(join(parts...), &expr.Verdict{Kind: expr.VerdictDrop})
}

// answers matches what is no answer: neither established nor related.
func answers() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

// frame matches the type of a frame, as it stands in it: what is tagged for a
// VLAN has that type, whatever it carries.
func frame(ether uint16) []expr.Any {
	return payload(expr.PayloadBaseLLHeader, etherType, binaryutil.BigEndian.PutUint16(ether))
}

// icmp6 matches a type of ICMPv6, after whatever headers.
func icmp6(kind byte) []expr.Any {
	return join([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(unix.ETH_P_IPV6)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
	}, transport(icmp6Type, []byte{kind}))
}

func payload(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}

func network(offset uint32, want []byte) []expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, offset, want)
}

func transport(offset uint32, want []byte) []expr.Any {
	return payload(expr.PayloadBaseTransportHeader, offset, want)
}

// within matches an IPv4 address in the header that is in a prefix.
func within(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// device compares the name of a device with that of the own bridge.
func device(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ownName)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

func join(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
