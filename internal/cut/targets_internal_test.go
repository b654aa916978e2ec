package cut

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Whatever dvold or an operator does, this host is not cut off from its own root
// directory.
func TestRootDirectoryIsNoVolume(t *testing.T) {
	hosttest.Root(t)
	root, err := host.MountedAt("/")
	if err != nil || root == nil {
		t.Fatalf("no mount at /: %v", err)
	}
	target := hosttest.Subdir(t, hosttest.Dir(t), "mnt")
	if err := unix.Mount("/", target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	known, err := Volume{ID: "db", Mountpoint: target}.Identified()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]Volume{
		"mounted":            {ID: "db", Mountpoint: target},
		"known":              {ID: "db", Mountpoint: hosttest.Dir(t), Device: known.Device, Root: known.Root},
		"mounted, and alone": {ID: "db", Mountpoint: target, Sole: true},
		"known, and alone":   {ID: "db", Mountpoint: hosttest.Dir(t), Device: known.Device, Root: "/x", Sole: true},
	} {
		r := newRun(&Cutter{Log: slog.New(slog.DiscardHandler)}, v, new(ledger))
		l, err := r.survey(t.Context()) // not a cut, lest this test kills all there is
		r.leave(t.Context(), l)
		if err == nil || !strings.Contains(err.Error(), "root directory") && !strings.Contains(err.Error(), "may be another") {
			t.Errorf("%s: got %v, want an error about the root directory", name, err)
		}
	}
}

func TestShownBy(t *testing.T) {
	volume := target{major: 8, minor: 1, root: "/pool/db"}
	of := func(change func(*target)) target {
		t := volume
		change(&t)
		return t
	}
	m := func(major, minor int, root string) *mountinfo.Info {
		return &mountinfo.Info{Major: major, Minor: minor, Root: root, Mountpoint: "/data", FSType: "ext4", Source: "/dev/sda1"}
	}
	tests := []struct {
		name string
		t    target
		m    *mountinfo.Info
		path string // at which it shows the target, or a part of it
		want bool   // it shows nothing else
	}{
		{"all of it", volume, m(8, 1, "/pool/db"), "/data", true},
		{"a part", volume, m(8, 1, "/pool/db/part"), "/data", true},
		{"deleted", volume, m(8, 1, "/pool/db//deleted"), "/data", true},
		{"the pool", volume, m(8, 1, "/pool"), "/data/db", false},
		{"all", volume, m(8, 1, "/"), "/data/pool/db", false},
		{"longer name", volume, m(8, 1, "/pool/db2"), "", false},
		{"shorter name", volume, m(8, 1, "/pool/d"), "", false},
		{"another number", volume, m(8, 2, "/pool/db"), "", false},
		{"another type", of(func(t *target) { t.kind = "xfs" }), m(8, 1, "/pool/db"), "", false},
		{"the type", of(func(t *target) { t.kind = "ext4" }), m(8, 1, "/pool/db"), "/data", true},
		{"another source", of(func(t *target) { t.source = "/dev/sdb1" }), m(8, 1, "/pool/db"), "", false},
		{"the source", of(func(t *target) { t.source = "/dev/sda1" }), m(8, 1, "/pool/db"), "/data", true},
		{"all of one that is alone", of(func(t *target) { t.sole = true }), m(8, 1, "/"), "/data", true},
	}
	for _, test := range tests {
		if got := test.t.shownBy(test.m); got != test.want {
			t.Errorf("%s: shown by it: %t, want %t", test.name, got, test.want)
		}
		if path, ok := test.t.path(test.m); path != test.path || ok != (test.path != "") {
			t.Errorf("%s: got path %q, want %q", test.name, path, test.path)
		}
	}
}

func TestWithin(t *testing.T) {
	tests := []struct {
		path, dir string
		want      bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/a/b", "/a/", true}, {"/ab", "/a", false}, {"/", "/a", false},
		{"/", "/", true}, {"/a", "/", true}, {"", "/", false}, {"", "/a", false}, {"a", "/", false},
	}
	for _, test := range tests {
		if got := within(test.path, test.dir); got != test.want {
			t.Errorf("%q within %q: got %t", test.path, test.dir, got)
		}
	}
}
