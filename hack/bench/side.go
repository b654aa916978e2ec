package main

import (
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sizes of a side's files.
const (
	wholeSize = 64 << 20
	wholeStep = 1 << 20
	someStep  = 4 << 10
)

// side is one way to a directory. It writes to a file there that is its own, for
// two clients would wait for each other's locks; what it reads is the same for
// all sides that have the directory, for which brick is read depends on the file.
type side struct {
	name   string
	own    string // the file that it writes to
	common string // the file that it reads
	write  *os.File
	read   *os.File
	places *rand.Rand // alike on all sides
	block  []byte
	turn   []int // blocks that were not used since the last forget
}

// newSide makes the side's own file, and the common one unless it is there.
func newSide(name, dir string, number int) (*side, error) {
	s := &side{
		name: name, own: filepath.Join(dir, fmt.Sprintf("own-%d", number)), common: filepath.Join(dir, "common"),
		places: rand.New(rand.NewPCG(1, 2)), block: make([]byte, wholeStep),
	}
	crand.Read(s.block)
	if _, err := os.Stat(s.common); err != nil {
		if err := s.writeWhole(s.common); err != nil {
			return nil, err
		}
	}
	if err := s.writeAll(); err != nil {
		return nil, err
	}
	return s, s.forget()
}

// forget has the kernel drop what it keeps of the files, and opens them anew, as
// whoever comes first; it also reads nothing ahead for readSome.
func (s *side) forget() (err error) {
	s.close()
	if s.write, err = os.OpenFile(s.own, os.O_RDWR, 0); err != nil {
		return err
	}
	if s.read, err = os.Open(s.common); err != nil {
		return err
	}
	s.turn = s.places.Perm(wholeSize / someStep)
	for _, f := range []*os.File{s.write, s.read} {
		for _, advice := range []int{unix.FADV_DONTNEED, unix.FADV_RANDOM} {
			if err := unix.Fadvise(int(f.Fd()), 0, 0, advice); err != nil {
				return os.NewSyscallError("fadvise", err)
			}
		}
	}
	return nil
}

func (s *side) close() {
	for _, f := range []*os.File{s.write, s.read} {
		if f != nil {
			f.Close() // nothing is left to be written
		}
	}
	s.write, s.read = nil, nil
}

// writeAll writes its own file anew.
func (s *side) writeAll() error { return s.writeWhole(s.own) }

func (s *side) writeWhole(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for range wholeSize / wholeStep {
		if _, err := f.Write(s.block); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// readAll reads the common file from its beginning to its end.
func (s *side) readAll() error {
	f, err := os.Open(s.common)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, wholeStep)
	for range wholeSize / wholeStep {
		if _, err := io.ReadFull(f, buffer); err != nil {
			return err
		}
	}
	return nil
}

// writeSome overwrites a block somewhere in its own file, and waits until it is on the
// storage.
func (s *side) writeSome() error {
	s.block[0]++
	if _, err := s.write.WriteAt(s.block[:someStep], s.somewhere()); err != nil {
		return err
	}
	return s.write.Sync()
}

// readSome reads a block of the common file that was not read before.
func (s *side) readSome() error {
	_, err := s.read.ReadAt(s.block[:someStep], s.somewhere())
	return err
}

// somewhere is the place of a block, no two alike since the last forget.
func (s *side) somewhere() int64 {
	n := s.turn[0]
	s.turn = s.turn[1:]
	return int64(n) * someStep
}
