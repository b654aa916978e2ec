package config_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everyKind is what a backend's configuration may consist of.
type everyKind struct {
	Text    string
	Flag    bool               `yaml:"flag"`
	Number  int                `yaml:"number"`
	Small   uint8              `yaml:"small"`
	List    []string           `yaml:"list"`
	Map     map[string]int     `yaml:"map"`
	Address netip.Addr         `yaml:"address"`
	Pointer *int               `yaml:"pointer"`
	Wait    time.Duration      `yaml:"wait"`
	Nested  struct{ A, B int } `yaml:"nested"`
	Common  `yaml:",inline"`
	Hidden  string `yaml:"-"`
	private string
}

type Common struct {
	Keyring string `yaml:"keyring,omitempty"`
}

// decode decodes a pool with these lines, the first of which is line 4.
func decode(t *testing.T, lines string, into any) (path string, err error) {
	t.Helper()
	path = write(t, "pools:\n  gv0:\n    type: gluster\n    "+strings.ReplaceAll(lines, "\n", "\n    ")+"\n")
	return path, mustLoad(t, "--config", path).Pools["gv0"].Decode(into)
}

func TestDecode(t *testing.T) {
	seven := 7
	want := everyKind{
		Text: "0x10", Flag: true, Number: -5, Small: 255, List: []string{"n1", "2"}, Map: map[string]int{"a": 1},
		Address: netip.MustParseAddr("10.0.0.1"), Pointer: &seven, Wait: 90 * time.Second, Common: Common{Keyring: "/k"},
	}
	want.Nested.B = 2
	var got everyKind
	for range 2 {
		if _, err := decode(t, "text: 0x10\nflag: true\nnumber: -5\nsmall: 255\nlist: [n1, 2]\nmap: {a: 1}\naddress: 10.0.0.1\npointer: 7\nwait: 1m30s\nnested: {b: 2}\nkeyring: /k\ntrash_ttl: 1h", &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestDecodeLeavesWhatIsNotSet(t *testing.T) {
	want := everyKind{Text: "a", Flag: true, Number: 3, List: []string{"b"}, Wait: time.Second, Hidden: "c", private: "d"}
	got := want
	if _, err := decode(t, "text:\nflag: ~\nlist:\nwait:\nnumber: 3", &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for lines, want := range map[string]string{
		"text: [a]":             `4: pools.gv0.text: want a text, not a list`,
		"flag: maybe":           `4: pools.gv0.flag: want true or false, not "maybe"`,
		"flag: \"true\"":        `4: pools.gv0.flag: want true or false, not "true"`,
		"text: a\nnumber: 1.5":  `5: pools.gv0.number: want a whole number, not "1.5"`,
		"small: 256":            `4: pools.gv0.small: want a whole number, not "256"`,
		"small: -1":             `4: pools.gv0.small: want a whole number, not "-1"`,
		"list: n1":              `4: pools.gv0.list: want a list, not "n1"`,
		"list:\n- n1\n- {a: b}": `6: pools.gv0.list[1]: want a text, not a mapping`,
		"list: [n1, ~]":         `4: pools.gv0.list[1]: it has no value: give it one, or leave it out`,
		"map: {a: x}":           `4: pools.gv0.map.a: want a whole number, not "x"`,
		"map: x":                `4: pools.gv0.map: want settings, not "x"`,
		"address: 10.0.0":       `4: pools.gv0.address: ParseAddr("10.0.0"): IPv4 address too short`,
		"address: [10.0.0.1]":   `4: pools.gv0.address: want a text, not a list`,
		"pointer: x":            `4: pools.gv0.pointer: want a whole number, not "x"`,
		"wait: 5":               `4: pools.gv0.wait: want a time, such as 30s or 5m, not "5"`,
		"nested: 5":             `4: pools.gv0.nested: want settings, not "5"`,
		"nested:\n  c: 5":       `5: unknown key pools.gv0.nested.c (valid: a, b)`,
		"Text: a":               `4: unknown key pools.gv0.Text (valid: address, exclusive, flag, keyring, list, map, nested, number, pointer, small, text, trash_ttl, type, wait)`,
		"hidden: a":             `4: unknown key pools.gv0.hidden (valid: address, exclusive, flag, keyring, list, map, nested, number, pointer, small, text, trash_ttl, type, wait)`,
		"private: a":            `4: unknown key pools.gv0.private (valid: address, exclusive, flag, keyring, list, map, nested, number, pointer, small, text, trash_ttl, type, wait)`,
	} {
		var into everyKind
		path, err := decode(t, lines, &into)
		wantMessage(t, err, path+":"+want)
		if !reflect.DeepEqual(into, everyKind{}) {
			t.Errorf("%s: refused, but decoded to %+v", lines, into)
		}
	}
}

func TestDecodeIntoNoStruct(t *testing.T) {
	for _, into := range []any{nil, everyKind{}, new(string), (*everyKind)(nil)} {
		if err := mustLoad(t, "--config", "testdata/one_pool.good.yaml").Pools["gv0"].Decode(into); err == nil {
			t.Errorf("Decode into %T succeeded", into)
		}
	}
}

func TestPoolSource(t *testing.T) {
	path := "testdata/one_pool.good.yaml"
	if got, want := mustLoad(t, "--config", path).Pools["gv0"].Source, path+":3: pools.gv0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := mustLoad(t, "--config", "testdata/empty.good.yaml").Pools["local"].Source, "the default pool"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
