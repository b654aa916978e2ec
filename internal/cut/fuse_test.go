package cut_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// serveFUSE mounts a file system at dir and serves it until it is killed: files
// and directories in memory, as little as the tests need. Stopped by SIGSTOP it
// is a storage that hangs.
func serveFUSE(dir string) error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	data := fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("dvold-test", dir, "fuse.dvold-test", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	fs := memory{nodes: map[uint64]*node{1: {dir: map[string]uint64{}}}, last: 1}
	ready := false
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(fd, request)
		switch {
		case errors.Is(err, unix.ENODEV): // unmounted, or aborted
			return nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return err
		}
		answer, errno := fs.answer(request[:n])
		unique := binary.LittleEndian.Uint64(request[8:])
		if opcode(request) == opForget || opcode(request) == opBatchForget {
			continue
		}
		var out bytes.Buffer
		put(&out, uint32(16+len(answer)), -int32(errno), unique)
		out.Write(answer)
		if _, err := unix.Write(fd, out.Bytes()); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if !ready { // the kernel has its INIT
			fmt.Println("ready")
			ready = true
		}
	}
}

// serveAndSend is serveFUSE for one that is connected with a server, to which it
// has "second" to send when it gets SIGUSR1. It is there also once it has nothing
// to serve any more, as if it had to flush.
func serveAndSend(dir, address string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	c, err := net.Dial("tcp", net.JoinHostPort(address, serverPort))
	if err != nil {
		return err
	}
	go func() {
		<-told
		_, _ = io.WriteString(c, "second") // the test sees whether it could
	}()
	if err := serveFUSE(dir); err != nil {
		return err
	}
	select {}
}

// The operations of linux/fuse.h that the tests come by.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opMkdir       = 9
	opUnlink      = 10
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opFsyncdir    = 30
	opCreate      = 35
	opBatchForget = 42
)

const (
	headerSize = 40
	isDir      = 0o040755
	isFile     = 0o100644
)

func opcode(request []byte) uint32 { return binary.LittleEndian.Uint32(request[4:]) }

// memory is the files of a file system, by their numbers.
type memory struct {
	nodes map[uint64]*node
	last  uint64
}

// node is a file, or a directory if it has a map.
type node struct {
	dir  map[string]uint64
	data []byte
}

func (m *memory) answer(request []byte) ([]byte, unix.Errno) {
	id := binary.LittleEndian.Uint64(request[16:])
	n, body := m.nodes[id], request[headerSize:]
	var out bytes.Buffer
	switch opcode(request) {
	case opInit:
		put(&out, uint32(7), uint32(31), uint32(1<<16), uint32(0)) // major, minor, readahead, flags
		put(&out, uint16(12), uint16(9), uint32(1<<16), uint32(1)) // background, congested, largest write, time grain
		out.Write(make([]byte, 32))
	case opLookup:
		child, ok := n.dir[name(body)]
		if !ok {
			return nil, unix.ENOENT
		}
		m.entry(&out, child)
	case opGetattr, opSetattr:
		if opcode(request) == opSetattr && binary.LittleEndian.Uint32(body)&(1<<3) != 0 { // FATTR_SIZE
			n.resize(binary.LittleEndian.Uint64(body[16:]))
		}
		put(&out, uint64(3600), uint32(0), uint32(0))
		m.attr(&out, id)
	case opMkdir:
		m.entry(&out, m.add(n, name(body[8:]), &node{dir: map[string]uint64{}}))
	case opCreate:
		m.entry(&out, m.add(n, name(body[16:]), &node{}))
		out.Write(make([]byte, 16))
	case opUnlink:
		delete(n.dir, name(body)) // who has it open keeps it
	case opOpen, opOpendir:
		out.Write(make([]byte, 16))
	case opRead:
		from := min(binary.LittleEndian.Uint64(body[8:]), uint64(len(n.data)))
		to := min(from+uint64(binary.LittleEndian.Uint32(body[16:])), uint64(len(n.data)))
		out.Write(n.data[from:to])
	case opWrite:
		at, data := binary.LittleEndian.Uint64(body[8:]), body[40:]
		n.resize(max(uint64(len(n.data)), at+uint64(len(data))))
		copy(n.data[at:], data)
		put(&out, uint32(len(data)), uint32(0))
	case opStatfs:
		out.Write(make([]byte, 80))
	case opForget, opBatchForget, opReaddir, opRelease, opReleasedir, opFlush, opFsync, opFsyncdir:
	default:
		return nil, unix.ENOSYS
	}
	return out.Bytes(), 0
}

func (m *memory) add(parent *node, name string, n *node) uint64 {
	m.last++
	m.nodes[m.last], parent.dir[name] = n, m.last
	return m.last
}

func (n *node) resize(size uint64) {
	n.data = append(n.data, make([]byte, max(size, uint64(len(n.data)))-uint64(len(n.data)))...)[:size]
}

// entry writes a struct fuse_entry_out.
func (m *memory) entry(out *bytes.Buffer, id uint64) {
	put(out, id, uint64(0), uint64(3600), uint64(3600), uint32(0), uint32(0))
	m.attr(out, id)
}

// attr writes a struct fuse_attr.
func (m *memory) attr(out *bytes.Buffer, id uint64) {
	n, mode, links := m.nodes[id], uint32(isFile), uint32(1)
	if n.dir != nil {
		mode, links = isDir, 2
	}
	put(out, id, uint64(len(n.data)), uint64(0), uint64(0), uint64(0), uint64(0)) // size, blocks, times
	put(out, uint32(0), uint32(0), uint32(0), mode, links)
	put(out, uint32(0), uint32(0), uint32(0), uint32(4096), uint32(0)) // owner, device, block size
}

func name(body []byte) string {
	text, _, _ := bytes.Cut(body, []byte{0})
	return string(text)
}

func put(out *bytes.Buffer, values ...any) {
	for _, v := range values {
		if err := binary.Write(out, binary.LittleEndian, v); err != nil {
			panic(err) // of a type without a fixed size
		}
	}
}
