package gluster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// mark is an option of a Gluster volume that says who is rejected by us, beside
// the list of addresses that are rejected by whomever. glusterd keeps options that
// begin with "user.", gives them no meaning, and does not reset them.
type mark struct {
	address     string
	host        string
	incarnation uint64
	state       markState
}

// markState says what became of an address.
type markState string

const (
	markRejected  markState = "rejected"  // by us
	markOperators markState = "operators" // it was rejected before, and stays so
	markLifted    markState = "lifted"    // it is rejected no more on account of the mark
)

const markPrefix = "user.dvol-reject-"

// option is the name of the option: one for each host and address.
func (m mark) option() string { return markPrefix + m.host + "-" + m.address }

func (m mark) value() string {
	return fmt.Sprintf("%s/%s/%d/%s", m.address, m.host, m.incarnation, m.state)
}

func parseMark(value string) (m mark, ok bool) {
	parts := strings.Split(value, "/")
	if len(parts) != 4 {
		return mark{}, false
	}
	m = mark{address: parts[0], host: parts[1], state: markState(parts[3])}
	switch m.state {
	case markRejected, markOperators, markLifted:
	default:
		return mark{}, false
	}
	var err error
	m.incarnation, err = strconv.ParseUint(parts[2], 10, 64)
	return m, err == nil
}

// marks are all there are.
func (v volumeInfo) marks() []mark {
	var all []mark
	for _, o := range v.Options {
		if m, ok := parseMark(o.Value); ok && strings.HasPrefix(o.Name, markPrefix) && o.Name == m.option() {
			all = append(all, m)
		}
	}
	return all
}

// markOf is the mark of the host and address of another.
func (v volumeInfo) markOf(other mark) (mark, bool) {
	all := v.marks()
	at := slices.IndexFunc(all, func(m mark) bool { return m.option() == other.option() })
	if at < 0 {
		return mark{}, false
	}
	return all[at], true
}

// nobody is an address that no client has, for a list without any other: glusterd
// takes no empty one. If the option were reset instead, a brick that was started with
// a list would go by that again, for as long as it runs: it keeps the options of its
// start beside those that it has heard since, which count where there are any
// (server_reconfigure and server_setvolume in GlusterFS's protocol/server; 10.3).
const nobody = "0.0.0.0"

// rejected are the addresses that are rejected, or patterns of such.
func (v volumeInfo) rejected() []string {
	var all []string
	for address := range strings.SplitSeq(v.option(rejectOption), ",") {
		if address = strings.TrimSpace(address); address != "" && address != nobody {
			all = append(all, address)
		}
	}
	return all
}

// listOf is the value of the option.
func listOf(addresses []string) string {
	return cmp.Or(strings.Join(addresses, ","), nobody)
}

// ours tells whether an address is rejected on account of a mark: of any host, or
// of any but one.
func (v volumeInfo) ours(address, but string) bool {
	return slices.ContainsFunc(v.marks(), func(m mark) bool {
		return m.address == address && m.state == markRejected && m.host != but
	})
}

// reject are the options and values to set, in one step, so that an address is
// rejected, and the mark says so; none if that is so.
func (v volumeInfo) reject(m mark) []string {
	list := v.rejected()
	had := slices.Contains(list, m.address)
	before, marked := v.markOf(m)
	if marked {
		m.incarnation = max(m.incarnation, before.incarnation)
	}
	switch {
	case had && marked && before.state != markLifted:
		m.state = before.state
	case had && !v.ours(m.address, ""):
		m.state = markOperators
	default:
		m.state = markRejected
	}
	if had && marked && m == before {
		return nil
	}
	set := []string{m.option(), m.value()}
	if !had {
		set = append(set, rejectOption, listOf(append(list, m.address)))
	}
	return set
}

// lift are the options to set, with their values, so that an address is rejected no
// more on account of its mark.
func (v volumeInfo) lift(m mark) (set []string) {
	list := v.rejected()
	if m.state == markRejected && !v.ours(m.address, m.host) && slices.Contains(list, m.address) {
		list = slices.DeleteFunc(list, func(a string) bool { return a == m.address })
		set = []string{rejectOption, listOf(list)}
	}
	m.state = markLifted
	return append(set, m.option(), m.value())
}
