package nfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// planShare plans a volume that is an export as it is.
func planShare(t *testing.T, p *nfs.Pool, share string, change func(*backends.Request)) (backends.Volume, error) {
	r := backends.Request{ID: id, Options: map[string]string{nfs.OptionShare: share}}
	if change != nil {
		change(&r)
	}
	return p.Plan(t.Context(), r)
}

// An export is a volume as it is, where the configuration allows that.
func testShare(t *testing.T, s server) {
	run, c := hosttest.Dir(t), newPool(t, s.exported, "4.2")
	share := address + ":" + s.squashed
	c.Shares = []string{address + ":" + filepath.Dir(s.squashed) + "/*", "nas:/srv/*"}
	p := openPool(t, run, c)
	uid := 1
	for name, test := range map[string]struct {
		share  string
		change func(*backends.Request)
		kind   error
		want   string
	}{
		"not allowed":    {address + ":/other/place", nil, backends.ErrInvalid, "add it to shares"},
		"not a share":    {s.squashed, nil, backends.ErrInvalid, "is not SERVER:/PATH"},
		"upwards":        {share + "/../exported", nil, backends.ErrInvalid, "is not SERVER:/PATH"},
		"line":           {share + "\n", nil, backends.ErrInvalid, "is not SERVER:/PATH"},
		"size":           {share, func(r *backends.Request) { r.Size = 1 << 30 }, backends.ErrInvalid, "leave out"},
		"owner":          {share, func(r *backends.Request) { r.UID = &uid }, backends.ErrInvalid, "leave out"},
		"adopt":          {share, func(r *backends.Request) { r.Adopt = "x" }, backends.ErrInvalid, "leave out"},
		"another option": {share, func(r *backends.Request) { r.Options["x"] = "y" }, backends.ErrInvalid, "x"},
		"not there":      {address + ":" + filepath.Dir(s.squashed) + "/nowhere", nil, backends.ErrUnavailable, "the server has no "},
	} {
		if _, err := planShare(t, p, test.share, test.change); !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}

	v, err := planShare(t, p, share, nil)
	if err == nil {
		err = p.Create(t.Context(), v)
	}
	if err != nil || !v.Adopted {
		t.Fatalf("got %+v, %v", v, err)
	}
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Location != share || info.Used < 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	file := filepath.Join(s.squashed, "file")
	writeFile(t, file)
	if err := os.Chmod(file, 0o644); err != nil { // root is nobody there
		t.Fatal(err)
	}
	for _, o := range []backends.MountOptions{{}, {ReadOnly: true}, {Alone: true}} {
		target := mount(t, p, v.Handle, o)
		if text, err := os.ReadFile(filepath.Join(target, "file")); string(text) != "data" {
			t.Errorf("%+v: got %q, %v", o, text, err)
		}
		if err := p.Mount(t.Context(), v.Handle, target, o); err != nil {
			t.Errorf("%+v, again: got %v", o, err)
		}
		other := o
		other.ReadOnly = !o.ReadOnly
		if err := p.Mount(t.Context(), v.Handle, target, other); !errors.Is(err, backends.ErrInUse) {
			t.Errorf("%+v, otherwise: got %v", o, err)
		}
		unmount(t, p, v.Handle, target)
	}
	if err := p.Remove(t.Context(), v.Handle); !errors.Is(err, backends.ErrInvalid) {
		t.Errorf("remove: got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(run, "nfs", "pool", "look.*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
