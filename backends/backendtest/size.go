package backendtest

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

const (
	size = 8 << 20
	// overhead is what a backend may count for itself, or round by.
	overhead = size / 4
)

// size is that of volumes in tests which look at something else.
func (s *suite) size() int64 {
	if s.fixture.Sizes {
		return size
	}
	return 0
}

// createSized makes a new volume with a limit.
func (s *suite) createSized(t *testing.T) backends.Volume {
	t.Helper()
	v := s.plan(t, backends.Request{Size: size})
	if v.Size != size {
		t.Errorf("planned size: got %d, want %d", v.Size, size)
	}
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatalf("create: %v", err)
	}
	return v
}

// A container fills its volume and no more; its neighbours notice nothing, and
// what is deleted can be used again.
func testSize(t *testing.T, s *suite) {
	if !s.fixture.Sizes {
		return // SizeRefused is the test then
	}
	small, other, free := s.createSized(t), s.createSized(t), s.create(t)
	s.expectUsed(t, small.Handle, 0)
	target := s.mount(t, small.Handle)
	expectEmpty(t, target)
	var fs unix.Statfs_t
	if err := unix.Statfs(target, &fs); err != nil || int64(fs.Blocks)*fs.Bsize > size+overhead && !s.fixture.SizesUnseen {
		t.Errorf("df shows %d bytes, %v, want at most the size", int64(fs.Blocks)*fs.Bsize, err)
	}

	for range 2 {
		written, err := s.fill(filepath.Join(target, "big"), s.tooMuch())
		s.expectFull(t, "write of too much", err)
		if written < size-overhead || written > size && s.fixture.Lags == 0 {
			t.Errorf("%d bytes could be written, want about %d", written, size)
		}
		s.expectUsed(t, small.Handle, written) // more than its size, if that is noticed late
		for _, handle := range []string{other.Handle, free} {
			neighbour := s.mount(t, handle)
			if _, err := s.fill(filepath.Join(neighbour, "file"), size-overhead); err != nil {
				t.Errorf("write to a neighbour of a full volume: %v", err)
			}
			s.unmount(t, handle, neighbour)
		}
		if err := os.Remove(filepath.Join(target, "big")); err != nil {
			t.Error(err)
		}
		if s.fixture.Lags > 0 { // else it finds out when it has to
			s.expectUsed(t, small.Handle, 0)
		}
	}

	if _, err := s.fill(filepath.Join(target, "big"), s.tooMuch()); err == nil {
		t.Error("too much was written")
	}
	s.unmount(t, small.Handle, target)
	if err := s.Remove(t.Context(), small.Handle); err != nil {
		t.Errorf("remove a full volume: %v", err)
	}
	s.expectUsed(t, other.Handle, size-overhead)
}

// Each call is repeated, once by another instance; the limit stays, also where
// the volume is in use already.
func testSizeAgain(t *testing.T, s *suite) {
	if !s.fixture.Sizes {
		return // SizeRefused is the test then
	}
	v := s.createSized(t)
	target := s.mount(t, v.Handle)
	write(t, target, "file", "data")
	s.Backend = open(t, s.fixture)
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	s.unmount(t, v.Handle, target)
	target = s.mount(t, v.Handle)
	expectFile(t, target, "file", "data")
	_, err := s.fill(filepath.Join(target, "big"), s.tooMuch())
	s.expectFull(t, "write of too much", err)
	s.unmount(t, v.Handle, target)
	for range 2 {
		if err := s.Remove(t.Context(), v.Handle); err != nil {
			t.Error(err)
		}
	}
}

// Data that is there already can't be given a size.
func testSizeAdopt(t *testing.T, s *suite) {
	if !s.fixture.Sizes {
		return // SizeRefused is the test then
	}
	if s.fixture.Adopt == nil {
		t.Skip("the backend adopts nothing")
	}
	_, err := s.Plan(t.Context(), backends.Request{ID: s.id(), Adopt: s.fixture.Adopt(t), Size: size})
	expectForUser(t, "adopt with a size", err, backends.ErrInvalid)
}

func testSizeRefused(t *testing.T, s *suite) {
	if s.fixture.Sizes {
		return // Size is the test then
	}
	_, err := s.Plan(t.Context(), backends.Request{ID: s.id(), Size: size})
	expectForUser(t, "plan with a size", err, backends.ErrInvalid)
}

// tooMuch is what can't be written to a volume with a limit, at the pace of this
// test.
func (s *suite) tooMuch() int64 {
	if s.fixture.Lags > 0 {
		return 8 * size
	}
	return 2 * size
}

// expectUsed checks what the backend reports of a volume of the usual size.
func (s *suite) expectUsed(t *testing.T, handle string, want int64) {
	t.Helper()
	s.expectInfo(t, handle, size, want)
}

func (s *suite) expectInfo(t *testing.T, handle string, limit, used int64) {
	t.Helper()
	for end := time.Now().Add(s.fixture.Lags); ; time.Sleep(10 * time.Millisecond) {
		info, err := s.Stat(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		sized := info.Size >= limit && info.Size <= limit+overhead
		unknown := info.Used == -1 && s.fixture.Disk > 0
		all := used > limit && info.Used == info.Size // no pool has to say how much more
		if sized && (unknown || all || info.Used >= used && info.Used <= used+overhead) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("reported: got size %d and use %d, want %d and %d", info.Size, info.Used, limit, used)
			return
		}
	}
}

// expectFull fails the test unless err is one that writers of a full volume get.
func (s *suite) expectFull(t *testing.T, what string, err error) {
	t.Helper()
	expect(t, what, err, append([]error{unix.ENOSPC, unix.EDQUOT}, s.fixture.FullToo...)...)
}

// fill writes a file of up to n bytes as a process without CAP_SYS_RESOURCE,
// which a container has not and which would lift a quota, and returns how many
// bytes it could write.
func (s *suite) fill(name string, n int64) (written int64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its capabilities
		if err = dropResource(); err == nil {
			written, err = writeFile(name, s.fixture.Lags > 0, n)
		}
	}()
	<-done
	return written, err
}

func dropResource() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	return unix.Capset(&header, &data[0])
}

// writeFile writes each block through to the storage if careful: glusterfs, the
// client, has been seen to abort when many writes were refused at once
// (docs/gluster.md), which is not what is tested.
func writeFile(name string, careful bool, n int64) (written int64, err error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if careful {
		flags |= unix.O_DSYNC
	}
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		return 0, err
	}
	block := make([]byte, 128<<10) // as much as a FUSE client is given at once
	for written < n && err == nil {
		var count int
		count, err = f.Write(block)
		written += int64(count)
	}
	return written, cmp.Or(err, f.Sync(), f.Close())
}
