package main

import (
	crand "crypto/rand"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// Sizes of a side's file.
const (
	wholeSize = 64 << 20
	wholeStep = 1 << 20
	someStep  = 4 << 10
)

// side is one way to a file.
type side struct {
	name   string
	path   string
	file   *os.File
	places *rand.Rand // alike on all sides
	block  []byte
	turn   []int // blocks that were not read since the last forget
}

// newSide makes the file.
func newSide(name, path string) (*side, error) {
	s := &side{name: name, path: path, places: rand.New(rand.NewPCG(1, 2)), block: make([]byte, wholeStep)}
	crand.Read(s.block)
	if err := s.writeAll(); err != nil {
		return nil, err
	}
	return s, s.forget()
}

// forget has the kernel drop what it keeps of the file, and opens it anew, as
// whoever comes first; it also reads nothing ahead for readSome.
func (s *side) forget() error {
	s.close()
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s.file = f
	s.turn = s.places.Perm(wholeSize / someStep)
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return os.NewSyscallError("fadvise", err)
	}
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM))
}

func (s *side) close() {
	if s.file != nil {
		s.file.Close() // nothing is left to be written
		s.file = nil
	}
}

// writeAll writes the file anew.
func (s *side) writeAll() error {
	f, err := os.Create(s.path)
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

// readAll reads the file from its beginning to its end.
func (s *side) readAll() error {
	f, err := os.Open(s.path)
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

// writeSome overwrites a block somewhere in the file, and waits until it is on the
// storage.
func (s *side) writeSome() error {
	s.block[0]++
	if _, err := s.file.WriteAt(s.block[:someStep], s.somewhere()); err != nil {
		return err
	}
	return s.file.Sync()
}

// readSome reads a block that was not read before.
func (s *side) readSome() error {
	_, err := s.file.ReadAt(s.block[:someStep], s.somewhere())
	return err
}

// somewhere is the place of a block, no two alike since the last forget.
func (s *side) somewhere() int64 {
	n := s.turn[0]
	s.turn = s.turn[1:]
	return int64(n) * someStep
}
