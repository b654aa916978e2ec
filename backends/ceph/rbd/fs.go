//go:build ceph && cgo

package rbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/program"
)

// superblock is what the beginning of a device says of its file system; see the
// kernel's documentation of ext4, and xfs_format.h.
type superblock struct {
	kind   string // ext4 or xfs; empty if it is neither
	uuid   string
	size   int64  // bytes
	block  int64  // of how many each
	dirty  bool   // of ext4: there is a journal to be replayed
	inodes uint32 // of xfs: how many percent they may take up
}

// headSize is how much of a device tells what is on it.
const headSize = 1 << 20

// read reads the superblock of a device.
func (b block) read() (superblock, error) {
	head, err := b.head()
	if err != nil {
		return superblock{}, err
	}
	return parseSuperblock(head), nil
}

func (b block) head() ([]byte, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return head[:n], nil
}

func parseSuperblock(head []byte) superblock {
	const extAt, extMagic, needsRecovery, wide = 1024, 0xef53, 0x4, 0x80
	if len(head) < extAt+1024 {
		return superblock{}
	}
	le, be := binary.LittleEndian, binary.BigEndian
	if ext := head[extAt:]; le.Uint16(ext[0x38:]) == extMagic {
		incompatible := le.Uint32(ext[0x60:])
		blocks := uint64(le.Uint32(ext[0x4:]))
		if incompatible&wide != 0 {
			blocks |= uint64(le.Uint32(ext[0x150:])) << 32
		}
		size := int64(1024) << (le.Uint32(ext[0x18:]) & 0xf)
		return superblock{
			kind: "ext4", uuid: uuidText(ext[0x68:]), block: size, size: int64(blocks) * size, dirty: incompatible&needsRecovery != 0,
		}
	}
	if bytes.HasPrefix(head, []byte("XFSB")) {
		size := int64(be.Uint32(head[4:]))
		return superblock{
			kind: "xfs", uuid: uuidText(head[32:]), block: size, size: int64(be.Uint64(head[8:])) * size, inodes: uint32(head[127]),
		}
	}
	return superblock{}
}

// uuidText writes a UUID as people do.
func uuidText(raw []byte) string {
	h := hex.EncodeToString(raw[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// endsAreZero tells whether nothing but zeros are in the first and the last MiB of a device.
func (b block) endsAreZero() (bool, error) {
	head, err := b.head()
	if err != nil || !isZero(head) {
		return false, err
	}
	size, err := b.size()
	if err != nil {
		return false, err
	}
	f, err := os.Open(b.path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, size-headSize), headSize))
	return err == nil && isZero(tail), err
}

func isZero(text []byte) bool { return len(bytes.Trim(text, "\x00")) == 0 }

// programTime is how long a program may take to make or check a file system: the
// cluster may be slow, and the disk large.
const programTime = 5 * time.Minute

// makeFS makes a file system on a device, whatever is there.
func makeFS(ctx context.Context, b block, s state) error {
	argv := map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", "-U", s.UUID, b.path},
		"xfs":  {"mkfs.xfs", "-q", "-f", "-K", "-m", "uuid=" + s.UUID, b.path},
	}[s.FS]
	if argv == nil {
		return fmt.Errorf("file system %q is not one of: ext4, xfs: %w", s.FS, backends.ErrInvalid)
	}
	_, err := program.Run(ctx, argv, []string{program.SearchPath}, programTime, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}

// grow has a file system that is mounted, and of which dir is a directory, take up its
// device, if it doesn't.
func grow(b block, dir *os.File) error {
	s, err := b.read()
	if err != nil {
		return err
	}
	size, err := b.size()
	if err != nil || s.block == 0 || size/s.block <= s.size/s.block {
		return err
	}
	blocks := uint64(size / s.block)
	switch s.kind {
	case "ext4":
		const resize = 0x40086610 // EXT4_IOC_RESIZE_FS
		err = ioctl(dir, resize, unsafe.Pointer(&blocks))
	case "xfs":
		const resize = 0x4010586e // XFS_IOC_FSGROWFSDATA
		err = ioctl(dir, resize, unsafe.Pointer(&struct {
			blocks  uint64
			percent uint32
		}{blocks, s.inodes}))
	}
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: dvold needs CAP_SYS_RESOURCE for that, and the file system must have no errors (dmesg)", err)
	}
	if err != nil {
		return fmt.Errorf("grow %s on %s: %w", s.kind, b.path, err)
	}
	return nil
}

func ioctl(f *os.File, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(argument)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
