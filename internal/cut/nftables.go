package cut

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// The table is dvold's own, for IPv4 and IPv6. Each volume has two chains in it,
// so that those of one may come and go without a gap for another.
const nftTable = "dvol_cut"

// nftChains returns the chains of a volume. They come before address
// translation: servers are told by the addresses that sockets have.
func nftChains(volume string) (out, in *nftables.Chain) {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: nftTable}
	accept := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: hook, Priority: nftables.ChainPriorityRaw,
		}
	}
	return chain("out-"+volume, nftables.ChainHookOutput), chain("in-"+volume, nftables.ChainHookInput)
}

// nftBlock drops all packets to and from the servers, at once or not at all.
func nftBlock(volume string, servers []netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	out, in := nftChains(volume)
	c.AddTable(out.Table)
	for _, chain := range []*nftables.Chain{out, in} {
		c.AddChain(chain)
		c.FlushChain(chain) // there may be one from before
		for _, prefix := range servers {
			c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: drop(prefix, chain == out)})
		}
	}
	return c.Flush()
}

func nftUnblock(volume string) error {
	out, in := nftChains(volume)
	var failures []error
	for _, chain := range []*nftables.Chain{out, in} {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.DelChain(chain)
		if err := c.Flush(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, fmt.Errorf("remove chain %s: %w", chain.Name, err))
		}
	}
	return errors.Join(failures...)
}

func nftRemedy(volume string) string {
	out, in := nftChains(volume)
	return fmt.Sprintf("nft delete chain inet %s %s; nft delete chain inet %s %s", nftTable, out.Name, nftTable, in.Name)
}

// drop is a rule that drops packets to or from the addresses of prefix.
func drop(prefix netip.Prefix, to bool) []expr.Any {
	const ipv4, ipv6 = 2, 10 // NFPROTO_IPV4, NFPROTO_IPV6
	const source4, source6 = 12, 8
	prefix = unmapped(prefix)
	address := prefix.Addr().AsSlice()
	length := uint32(len(address))
	protocol, offset := byte(ipv4), uint32(source4)
	if prefix.Addr().Is6() {
		protocol, offset = ipv6, source6
	}
	if to {
		offset += length // where the destination is
	}
	mask := make([]byte, length)
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: prefix.Masked().Addr().AsSlice()},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// unmapped returns a prefix of IPv4 addresses that are written as IPv6 ones as
// what it is.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
