package gluster

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/host"
)

// volumeWith is a Gluster volume with options.
func volumeWith(options map[string]string) volumeInfo {
	v := volumeInfo{Name: "gv0"}
	for name, value := range options {
		v.Options = append(v.Options, option{name, value})
	}
	return v
}

// A list of addresses, changed by some hosts in turn, has just those that it should.
func TestRejectList(t *testing.T) {
	options := map[string]string{}
	do := func(set []string) {
		for pair := range slices.Chunk(set, 2) {
			options[pair[0]] = pair[1]
		}
	}
	at := func(host, address string, incarnation uint64) mark {
		return mark{address: address, host: host, incarnation: incarnation}
	}
	fence := func(host, address string, incarnation uint64) {
		do(volumeWith(options).reject(at(host, address, incarnation)))
	}
	unfence := func(host, address string) {
		v := volumeWith(options)
		m, ok := v.markOf(mark{host: host, address: address})
		if !ok {
			t.Fatalf("there is no mark of %s", host)
		}
		do(v.lift(m))
	}
	want := func(list string) {
		t.Helper()
		if options[rejectOption] != list {
			t.Fatalf("got %q, want %q", options[rejectOption], list)
		}
	}
	fence("h1", "10.0.0.1", 3)
	want("10.0.0.1")
	if again := volumeWith(options).reject(at("h1", "10.0.0.1", 3)); len(again) > 0 {
		t.Errorf("again: %v", again)
	}
	if m, _ := volumeWith(options).markOf(mark{host: "h1", address: "10.0.0.1"}); m.incarnation != 3 || m.state != markRejected {
		t.Errorf("mark is %+v", m)
	}
	fence("h1", "10.0.0.1", 2) // an older stay, later
	if m, _ := volumeWith(options).markOf(mark{host: "h1", address: "10.0.0.1"}); m.incarnation != 3 {
		t.Errorf("mark is %+v", m)
	}
	fence("h2", "10.0.0.2", 1)
	want("10.0.0.1,10.0.0.2")
	fence("h3", "10.0.0.1", 1) // another host, which has the address by now
	unfence("h1", "10.0.0.1")
	want("10.0.0.1,10.0.0.2")
	unfence("h3", "10.0.0.1")
	want("10.0.0.2")
	unfence("h2", "10.0.0.2")
	want(nobody)
	if marks := volumeWith(options).marks(); len(marks) != 3 || slices.ContainsFunc(marks, func(m mark) bool { return m.state != markLifted }) {
		t.Errorf("left: %v", options)
	}

	options[rejectOption] = "10.0.*, 10.9.9.9"
	fence("h1", "10.9.9.9", 1)
	fence("h2", "10.9.9.9", 1)
	fence("h1", "10.0.0.1", 1)
	want("10.0.*,10.9.9.9,10.0.0.1")
	unfence("h1", "10.9.9.9")
	unfence("h2", "10.9.9.9")
	unfence("h1", "10.0.0.1")
	want("10.0.*,10.9.9.9")
	delete(options, rejectOption) // the operator has changed his mind
	fence("h1", "10.9.9.9", 2)
	want("10.9.9.9")
	unfence("h1", "10.9.9.9")
	want(nobody)
	fence("h1", "10.0.0.1", 4)
	want("10.0.0.1")
}

func TestMarks(t *testing.T) {
	for _, bad := range []string{"", "a", "1/2", "10.0.0.1/h1/x/lifted", "10.0.0.1/h1/1", "10.0.0.1/h1/1/x", "10.0.0.1/h1/1/operators/"} {
		if m, ok := parseMark(bad); ok {
			t.Errorf("%q: got %+v", bad, m)
		}
	}
	for _, m := range []mark{{"10.0.0.1", "h-1.x", 7, markRejected}, {"fd00::1", "h", 0, markOperators}} {
		if got, ok := parseMark(m.value()); !ok || got != m {
			t.Errorf("%+v: got %+v, %v", m, got, ok)
		}
		if !word.MatchString(m.option()) || !word.MatchString(m.value()) {
			t.Errorf("%s %s is not fit for a command", m.option(), m.value())
		}
	}
}

// What a brick that can't be checked would do for.
func TestWritable(t *testing.T) {
	for _, test := range []struct {
		bricks, replica, disperse, redundant int
		quorum                               bool
		unchecked                            string // numbers of bricks
		want                                 bool
	}{
		{3, 3, 0, 0, true, "", false},
		{3, 3, 0, 0, true, "2", false},
		{3, 3, 0, 0, true, "12", true},
		{3, 3, 0, 0, false, "2", true},
		{6, 3, 0, 0, true, "05", false},
		{6, 3, 0, 0, true, "34", true},
		{4, 4, 0, 0, true, "1", false},
		{4, 4, 0, 0, true, "01", true}, // the first of half will do
		{2, 2, 0, 0, true, "1", true},
		{2, 1, 0, 0, true, "1", true}, // each file is on one
		{6, 1, 6, 2, true, "012", false},
		{6, 1, 6, 2, true, "0123", true},
	} {
		v := volumeInfo{Replica: test.replica, Disperse: test.disperse, Redundant: test.redundant}
		var unchecked []string
		for i := range test.bricks {
			v.Bricks = append(v.Bricks, brick{fmt.Sprint("h:/", i)})
			if strings.Contains(test.unchecked, fmt.Sprint(i)) {
				unchecked = append(unchecked, fmt.Sprint("h:/", i))
			}
		}
		if got := v.writable(unchecked, test.quorum); (got != "") != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

// Bricks that don't say that this host is their client.
func TestBricksWithout(t *testing.T) {
	at := netip.MustParseAddrPort
	v := volumeInfo{Bricks: []brick{{"a:/b"}, {"b:/b"}, {"c:/b"}}}
	mine := []host.Connection{{Local: at("10.0.0.1:1")}, {Local: at("10.0.0.1:2")}}
	seen := map[string][]netip.AddrPort{"a:/b": {at("10.0.0.2:1"), at("10.0.0.1:2")}, "b:/b": {at("10.0.0.1:3"), at("10.0.0.2:1")}}
	if got := v.bricksWithout(mine, seen); !slices.Equal(got, []string{"b:/b", "c:/b"}) {
		t.Errorf("got %v", got)
	}
	if got := v.bricksWithout(nil, seen); len(got) != 3 {
		t.Errorf("without a connection: got %v", got)
	}
}

func TestParsePending(t *testing.T) {
	text := `Pending calls for volume gv0
----------------------------------------------
Brick : 10.98.0.41:/b/gv0
Pending calls: 2
Call Stack1
 UID    : 0
 GID    : 0
 PID    : 375
 Unique : 1602
 Frames : 1
 Frame 1
Call Stack2
 UID    : 0
 GID    : 0
 PID    : 0
 Unique : 1601
 Frames : 1
----------------------------------------------
Brick : 10.98.0.42:/b/gv0
Pending calls: 1
Call Stack1
 UID    : 0
 GID    : 0
 PID    : 375
 Unique : 1602
 Frames : 1
----------------------------------------------
`
	calls, err := parsePending([]byte(text))
	if err != nil || len(calls) != 3 || !calls["10.98.0.42:/b/gv0, call 1602 of process 375"] {
		t.Errorf("got %v, %v", calls, err)
	}
	if _, err := parsePending([]byte("Volume gv0 is not started\n")); err == nil {
		t.Error("no brick: got no error")
	}
}

func TestParseClient(t *testing.T) {
	for name, want := range map[string]string{"10.98.0.1:49151": "10.98.0.1:49151", "fd00::1:49151": "[fd00::1]:49151", "::ffff:10.0.0.1:80": "10.0.0.1:80"} {
		if got, err := parseClient(name); err != nil || got.String() != want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"", "host:49151", "10.0.0.1", "10.0.0.1:x"} {
		if got, err := parseClient(bad); err == nil {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestParseVolumeInfo(t *testing.T) {
	var answer struct {
		Volumes []volumeInfo `xml:"volInfo>volumes>volume"`
	}
	text := `<cliOutput><opRet>0</opRet><volInfo><volumes><volume><name>gv0</name><id>b9d2</id><replicaCount>3</replicaCount><bricks>
<brick uuid="x">a:/b/c:/d<name>a:/b/c:/d</name><isArbiter>0</isArbiter></brick></bricks><options><option><name>auth.reject</name><value>1.2.3.4</value></option></options></volume></volumes></volInfo></cliOutput>`
	if err := xml.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	v := answer.Volumes[0]
	if v.ID != "b9d2" || v.option(rejectOption) != "1.2.3.4" || len(v.Bricks) != 1 || v.Bricks[0].Name != "a:/b/c:/d" || v.group() != 3 {
		t.Errorf("got %+v", v)
	}
	if got := v.servers(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("servers are %v", got)
	}
}
