package cut

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// tool is the program iptables for IPv4 or IPv6.
type tool string

const (
	tool4 tool = "iptables"
	tool6 tool = "ip6tables"
)

// iptablesChains returns the chains of a volume, in the built-in chains that
// lead to them. Their names must be short.
func iptablesChains(volume string) map[string]string {
	name := fmt.Sprintf("DVOL-%x", sha256.Sum256([]byte(volume)))[:25]
	return map[string]string{"OUTPUT": name + "-o", "INPUT": name + "-i"}
}

// iptablesBlock is nftBlock for kernels without nftables.
func iptablesBlock(ctx context.Context, volume string, servers []netip.Prefix) error {
	chains := iptablesChains(volume)
	rules := make(map[tool]*strings.Builder)
	for _, prefix := range servers {
		prefix = unmapped(prefix).Masked()
		tool := tool4
		if prefix.Addr().Is6() {
			tool = tool6
		}
		if rules[tool] == nil {
			rules[tool] = new(strings.Builder)
		}
		fmt.Fprintf(rules[tool], "-A %s -d %s -j DROP\n-A %s -s %s -j DROP\n", chains["OUTPUT"], prefix, chains["INPUT"], prefix)
	}
	for tool, lines := range rules {
		// Chains that are named here begin empty.
		input := fmt.Sprintf("*filter\n:%s - [0:0]\n:%s - [0:0]\n%vCOMMIT\n", chains["OUTPUT"], chains["INPUT"], lines)
		if err := tool.run(ctx, input, "-restore", "--noflush", "--wait", "1"); err != nil {
			return err
		}
		for from, to := range chains {
			if tool.run(ctx, "", "", "--wait", "1", "-C", from, "-j", to) == nil { // from before
				continue
			}
			if err := tool.run(ctx, "", "", "--wait", "1", "-I", from, "-j", to); err != nil {
				return err
			}
		}
	}
	return nil
}

func iptablesUnblock(ctx context.Context, volume string) error {
	for _, tool := range []tool{tool4, tool6} {
		for from, to := range iptablesChains(volume) {
			err := tool.run(ctx, "", "", "--wait", "1", "-F", to)
			if isNone(ctx, err) { // no such chain, and so nothing that leads there
				continue
			}
			if err == nil {
				err = tool.run(ctx, "", "", "--wait", "1", "-D", from, "-j", to)
			}
			if err == nil || isNone(ctx, err) { // nothing led there yet
				err = tool.run(ctx, "", "", "--wait", "1", "-X", to)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// iptablesRemedy empties the chains: they block nothing then.
func iptablesRemedy(volume string) string {
	chains := iptablesChains(volume)
	var commands []string
	for _, tool := range []tool{tool4, tool6} {
		commands = append(commands, fmt.Sprintf("%s -F %s", tool, chains["OUTPUT"]), fmt.Sprintf("%s -F %s", tool, chains["INPUT"]))
	}
	return strings.Join(commands, "; ")
}

// isNone tells whether what a program was to change is not there, or the program itself is not,
// or the kernel has no such tables: not if it was too busy or killed, or there was not the time.
func isNone(ctx context.Context, err error) bool {
	const busy = 4 // RESOURCE_PROBLEM of xtables.h
	exit := (*exec.ExitError)(nil)
	return err != nil && ctx.Err() == nil && (!errors.As(err, &exit) || exit.Exited() && exit.ExitCode() != busy)
}

// run runs the program whose name ends in suffix.
func (t tool) run(ctx context.Context, input, suffix string, args ...string) error {
	cmd := exec.CommandContext(ctx, string(t)+suffix, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.WaitDelay = 100 * time.Millisecond
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s%s: %w: %s", t, suffix, err, bytes.TrimSpace(out))
	}
	return nil
}
