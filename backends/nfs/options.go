package nfs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// optionValues returns the options that a configuration may set, with what their
// values may be: nil means that there is none. What is not among them either
// makes no sense here, or would take away what dvold relies on.
func optionValues() map[string]func(value string) bool {
	number := between(0, 1<<31-1)
	return map[string]func(string) bool{
		"hard": nil, "soft": nil, "softerr": nil,
		"timeo": between(1, 6000), "retrans": between(0, 1000),
		"rsize": between(1024, 1<<20), "wsize": between(1024, 1<<20), "nconnect": between(1, 16), "max_connect": between(1, 16),
		"ac": nil, "noac": nil, "acregmin": number, "acregmax": number, "acdirmin": number, "acdirmax": number, "actimeo": number,
		"lookupcache": oneOf("all", "none", "pos", "positive"),
		"cto":         nil, "nocto": nil, "rdirplus": nil, "nordirplus": nil, "resvport": nil, "noresvport": nil,
		// Of version 3 alone.
		"lock": nil, "nolock": nil, "acl": nil, "noacl": nil, "mountport": between(1, 65535), "mountproto": oneOf("tcp", "udp"),
	}
}

// isOfVersion3 tells whether an option has no meaning in later versions.
func isOfVersion3(name string) bool {
	return slices.Contains([]string{"lock", "nolock", "acl", "noacl", "mountport", "mountproto"}, name)
}

func between(low, high int) func(string) bool {
	return func(value string) bool {
		n, err := strconv.Atoi(value)
		return err == nil && n >= low && n <= high && strconv.Itoa(n) == value
	}
}

func oneOf(values ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(values, value) }
}

// opposites are options that contradict each other.
func opposites() [][]string {
	return [][]string{{"hard", "soft", "softerr"}, {"ac", "noac"}, {"cto", "nocto"}, {"rdirplus", "nordirplus"}, {"resvport", "noresvport"}, {"lock", "nolock"}, {"acl", "noacl"}}
}

func (c Config) validateOptions() error {
	allowed, set := optionValues(), make(map[string]bool)
	for _, o := range c.Options {
		name, value, valued := strings.Cut(o, "=")
		valid, known := allowed[name]
		switch {
		case !known:
			return fmt.Errorf("%q is not one of: %s", name, strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
		case valid == nil && valued:
			return fmt.Errorf("%s takes no value", name)
		case valid != nil && !valid(value):
			return fmt.Errorf("%s: %q is no value for it", name, value)
		case set[name]:
			return fmt.Errorf("%s is there twice", name)
		case isOfVersion3(name) && c.Version != "3":
			return fmt.Errorf("%s is of version 3 alone", name)
		}
		set[name] = true
	}
	for _, group := range opposites() {
		both := slices.DeleteFunc(slices.Clone(group), func(name string) bool { return !set[name] })
		if len(both) > 1 {
			return fmt.Errorf("%s contradict each other", strings.Join(both, " and "))
		}
	}
	return nil
}

// has tells whether an option without a value is set.
func (c Config) has(option string) bool { return slices.Contains(c.Options, option) }

// isSoft tells whether calls fail when the server is silent for long, which
// programs take for an error of a disk, and may lose data by.
func (c Config) isSoft() bool { return c.has("soft") || c.has("softerr") }

// way is how the server is reached.
type way struct {
	server netip.Addr
	client netip.Addr // this host, as the server can call it back
}

// mountData is what mount(2) takes of a mount of the pool: see nfs(5) and
// fs/nfs/fs_context.c in Linux. An own mount shares nothing with others of the
// same export, so that it can be ended without them. The configuration is valid.
func mountData(c Config, version string, w way, own bool) string {
	proto := "tcp"
	if w.server.Is6() {
		proto = "tcp6"
	}
	data := []string{"vers=" + version, "proto=" + proto, "port=" + strconv.Itoa(c.Port), "sec=" + c.Sec}
	if !c.has("hard") && !c.isSoft() {
		data = append(data, "hard")
	}
	data = append(data, c.Options...)
	if version == "3" {
		data = append(data, "mountvers=3")
		if !slices.ContainsFunc(c.Options, func(o string) bool { return strings.HasPrefix(o, "mountproto=") }) {
			data = append(data, "mountproto="+proto)
		}
	}
	if own {
		data = append(data, ownOption)
	}
	data = append(data, "addr="+w.server.String())
	if version == "4.0" { // later versions call back on the same connection
		data = append(data, "clientaddr="+w.client.String())
	}
	return strings.Join(data, ",")
}

// ownOption is that of an own mount, as the mount table has it, too.
const ownOption = "nosharecache"
