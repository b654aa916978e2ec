package backendtest

import (
	"io/fs"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/dvol/dvold/backends"
)

func testPlan(t *testing.T, s *suite) {
	r := backends.Request{ID: s.id()}
	first, second := s.plan(t, r), s.plan(t, r)
	if !reflect.DeepEqual(first, second) {
		t.Errorf("planned twice: got %+v, then %+v", first, second)
	}
	if first.Handle == "" || first.Adopted {
		t.Errorf("got %+v, want a handle and nothing adopted", first)
	}
	_, err := s.Stat(t.Context(), first.Handle)
	expect(t, "stat of what is only planned", err, backends.ErrNotFound)
	if other := s.plan(t, backends.Request{}); other.Handle == first.Handle {
		t.Errorf("two volumes have the handle %s", other.Handle)
	}
}

func testPlanUnknownOption(t *testing.T, s *suite) {
	const unknown = "no-such-option"
	_, err := s.Plan(t.Context(), backends.Request{ID: s.id(), Options: map[string]string{unknown: "1"}})
	expectForUser(t, "unknown option", err, backends.ErrInvalid)
	for _, name := range append(backends.CommonOptions(), unknown) {
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not mention %s", err, name)
		}
	}
}

func testCreate(t *testing.T, s *suite) {
	target := s.mount(t, s.create(t))
	expectEmpty(t, target)
	write(t, target, "file", "data")
	if err := os.Chown(target, 1234, 5678); err != nil {
		t.Errorf("a container cannot take over the volume: %v", err)
	}
}

// A repeated Create, as after an answer that was lost, leaves alone what the
// volume's users did meanwhile.
func testCreateAgain(t *testing.T, s *suite) {
	v := s.plan(t, backends.Request{})
	for range 2 {
		if err := s.Create(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	target := s.mount(t, v.Handle)
	expectEmpty(t, target)
	write(t, target, "file", "data")
	if err := os.Chown(target, 1234, 5678); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(target, 0o700); err != nil {
		t.Fatal(err)
	}
	s.unmount(t, v.Handle, target)
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	target = s.mount(t, v.Handle)
	expectFile(t, target, "file", "data")
	expectOwner(t, target, 1234, 5678, 0o700)
}

func testCreateOwnerAndMode(t *testing.T, s *suite) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	mode := func(m fs.FileMode) *fs.FileMode { return &m }
	id := func(n int) *int { return &n }
	tests := []struct {
		uid, gid         *int
		mode             *fs.FileMode
		wantUID, wantGID uint32
		wantMode         fs.FileMode
	}{
		{nil, nil, nil, 0, 0, 0o755},
		{id(1000), nil, nil, 1000, 0, 0o755},
		{nil, id(1 << 31), nil, 0, 1 << 31, 0o755},
		{id(0), id(70), mode(0o770), 0, 70, 0o770},
		{id(1<<32 - 2), id(1), mode(fs.ModeSetgid | fs.ModeSticky | 0o777), 1<<32 - 2, 1, fs.ModeSetgid | fs.ModeSticky | 0o777},
		{id(70), id(70), mode(0), 70, 70, 0},
	}
	for _, test := range tests {
		v := s.plan(t, backends.Request{UID: test.uid, GID: test.gid, Mode: test.mode})
		if err := s.Create(t.Context(), v); err != nil {
			t.Errorf("create: %v", err)
			continue
		}
		target := s.mount(t, v.Handle)
		expectOwner(t, target, test.wantUID, test.wantGID, test.wantMode)
		expectEmpty(t, target)
	}
}

func expectOwner(t *testing.T, dir string, uid, gid uint32, mode fs.FileMode) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != uid || st.Gid != gid || info.Mode() != fs.ModeDir|mode {
		t.Errorf("got owner %d:%d and mode %v, want %d:%d and %v", st.Uid, st.Gid, info.Mode(), uid, gid, fs.ModeDir|mode)
	}
}

func testLongID(t *testing.T, s *suite) {
	v := s.plan(t, backends.Request{ID: strings.Repeat("n", 200) + ".0123456789ab"})
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	target := s.mount(t, v.Handle)
	write(t, target, "file", "data")
	s.unmount(t, v.Handle, target)
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
}

func testStat(t *testing.T, s *suite) {
	handle := s.create(t)
	info, err := s.Stat(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != s.fixture.Disk || info.Used < -1 || info.Location == "" {
		t.Errorf("got %+v, want size %d (0 is no limit) and a location", info, s.fixture.Disk)
	}
}

func testMissing(t *testing.T, s *suite) {
	s.create(t)
	handle := s.plan(t, backends.Request{}).Handle
	_, err := s.Stat(t.Context(), handle)
	expectForUser(t, "stat", err, backends.ErrNotFound)
	target := s.target(t)
	expectForUser(t, "mount", s.Mount(t.Context(), handle, target, backends.MountOptions{}), backends.ErrNotFound)
	if mounted(t, target) {
		t.Errorf("%s became a mountpoint", target)
	}
	expect(t, "unmount", s.Unmount(t.Context(), handle, target), nil)
	expect(t, "remove", s.Remove(t.Context(), handle), nil)
}

func testAdopt(t *testing.T, s *suite) {
	if s.fixture.Adopt == nil {
		t.Skip("the backend adopts nothing")
	}
	name := s.fixture.Adopt(t)
	one := 1
	mode := fs.FileMode(0o700)
	for what, r := range map[string]backends.Request{"uid": {UID: &one}, "gid": {GID: &one}, "mode": {Mode: &mode}} {
		r.ID, r.Adopt = s.id(), name
		_, err := s.Plan(t.Context(), r)
		expectForUser(t, "adopt with "+what, err, backends.ErrInvalid)
	}

	v := s.plan(t, backends.Request{Adopt: name})
	if !v.Adopted {
		t.Errorf("got %+v, want it adopted", v)
	}
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	target := s.mount(t, v.Handle)
	write(t, target, "file", "data")
	if err := os.Chown(target, 1234, 5678); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(target, 0o701); err != nil {
		t.Fatal(err)
	}
	s.unmount(t, v.Handle, target)
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	expectForUser(t, "remove", s.Remove(t.Context(), v.Handle), backends.ErrInvalid)
	target = s.mount(t, v.Handle)
	expectFile(t, target, "file", "data")
	expectOwner(t, target, 1234, 5678, 0o701)
}

func testAdoptMissing(t *testing.T, s *suite) {
	if s.fixture.Adopt == nil {
		t.Skip("the backend adopts nothing")
	}
	_, err := s.Plan(t.Context(), backends.Request{ID: s.id(), Adopt: s.fixture.Adopt(t) + "-missing"})
	expectForUser(t, "adopt", err, backends.ErrNotFound)
}
