package cut

import (
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestParseStatus(t *testing.T) {
	line := func(head, flags, threads string) string {
		return head + " 1 1 1 0 -1 " + flags + " 0 0 0 0 0 0 0 0 20 0 " + threads + " 0 4711 8 9\n"
	}
	tests := []struct {
		text string
		want status
		ok   bool
	}{
		{line("7 (sleep) S", "4194304", "1"), status{command: "sleep", state: 'S', threads: 1, start: 4711}, true},
		{line("7 (a) Z 1 (b) c) R", "4194304", "3"), status{command: "a) Z 1 (b) c", state: 'R', threads: 3, start: 4711}, true},
		{line("2 (kthreadd) S", "2129984", "1"), status{command: "kthreadd", state: 'S', kernel: true, threads: 1, start: 4711}, true},
		{line("7 () Z", "4194308", "1"), status{state: 'Z', threads: 1, start: 4711}, true},
		{line("7 (x) S", "flags", "1"), status{}, false},
		{line("7 (x) S", "0", "many"), status{}, false},
		{"7 (x) S 1 1", status{}, false},
		{"7 x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 8 9\n", status{}, false},
		{") (", status{}, false},
		{"", status{}, false},
	}
	for _, test := range tests {
		got, err := parseStatus([]byte(test.text))
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: got %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}

func TestParseDescriptor(t *testing.T) {
	tests := []struct {
		text string
		want descriptor
		ok   bool
	}{
		{"pos:\t0\nflags:\t0100000\nmnt_id:\t24\nino:\t3\n", descriptor{mount: 24, flags: 0o100000}, true},
		{"pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t90\nfuse_connection:\t47\n", descriptor{mount: 24, flags: 0o2100002, fuse: 47}, true},
		{"pos:\t0\nflags:\t012000000\nmnt_id:\t9\nlock:\t1: FLOCK  ADVISORY  WRITE 1 fe:00:12 0 EOF\n", descriptor{mount: 9, flags: 0o12000000}, true},
		{"pos:\t0\nflags:\t8\nmnt_id:\t24\n", descriptor{}, false},
		{"pos:\t0\nflags:\t0\nmnt_id:\tx\n", descriptor{}, false},
		{"pos:\t0\nflags:\t0\n", descriptor{}, false},
		{"", descriptor{}, false},
	}
	for _, test := range tests {
		got, err := parseDescriptor([]byte(test.text))
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: got %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}

func TestParseMapping(t *testing.T) {
	tests := []struct {
		line string
		want mapping
	}{
		{"55981722e000-559817230000 r--p 00000000 fe:00 123   /usr/bin/two words (deleted)\n",
			mapping{false, "/usr/bin/two words (deleted)", "55981722e000-559817230000"}},
		{"00400000-00401000 rw-s 00001000 00:2f 7 /data/file\n", mapping{true, "/data/file", "400000-401000"}},
		{"7fff-8000 rw-p 00000000 00:00 0\n", mapping{}},
		{"nonsense", mapping{}},
	}
	for _, test := range tests {
		if got := parseMapping([]byte(test.line)); got != test.want {
			t.Errorf("%q: got %+v, want %+v", test.line, got, test.want)
		}
	}
}

func TestLinesWith(t *testing.T) {
	const text = "a 1 b\nc 2 d\ne 1 f\n 1 "
	want := []string{"a 1 b\n", "e 1 f\n", " 1 "}
	var got []string
	for rest := []byte(text); ; {
		var line []byte
		if line, rest = lineWith(rest, []byte(" 1 ")); line == nil {
			break
		}
		got = append(got, string(line))
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEngine(t *testing.T) {
	for path, want := range map[string]bool{
		"/usr/bin/dockerd":                       true,
		"/usr/bin/dockerd (deleted)":             true,
		"/usr/local/bin/containerd-shim-runc-v2": true,
		"/usr/bin/docker-proxy":                  true,
		"/usr/lib/systemd/systemd":               true,
		"/usr/lib/systemd/systemd-executor":      true,
		"/snap/docker/1/bin/containerd":          true,
		"/usr/local/bin/dvold":                   true,
		"/usr/bin/postgres":                      false,
		"/usr/bin/dockerd-rootless":              false,
		"/dockerd/sh":                            false,
		"":                                       false,
	} {
		if got := engine(path); got != want {
			t.Errorf("%q: got %t, want %t", path, got, want)
		}
	}
}

func TestInFileSystem(t *testing.T) {
	m := func(root, mountpoint string) *mountinfo.Info {
		return &mountinfo.Info{Root: root, Mountpoint: mountpoint}
	}
	tests := []struct {
		path string
		m    *mountinfo.Info
		want string
		ok   bool
	}{
		{"/a/b", m("/", "/"), "/a/b", true},
		{"/", m("/", "/"), "/", true},
		{"/mnt/x/f", m("/pool/x", "/mnt/x"), "/pool/x/f", true},
		{"/mnt/x", m("/pool/x", "/mnt/x"), "/pool/x", true},
		{"/mnt/x/f (deleted)", m("/", "/mnt/x"), "/f", true},
		{"/mnt/xy", m("/pool/x", "/mnt/x"), "", false},
		{"/elsewhere", m("/", "/mnt/x"), "", false},
		{"", m("/", "/"), "", false},
	}
	for _, test := range tests {
		if got, ok := inFileSystem(test.path, test.m); got != test.want || ok != test.ok {
			t.Errorf("%q through %s of %s: got %q, %t, want %q", test.path, test.m.Mountpoint, test.m.Root, got, ok, test.want)
		}
	}
}
