package host

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// QuotaState says what a file system does with projects: numbers that files
// carry, by which it counts and limits what they take together.
type QuotaState int

const (
	QuotaOff      QuotaState = iota // it does not know or not count them
	QuotaCounted                    // it counts, and no limit holds
	QuotaEnforced                   // limits hold
)

// ProjectQuota is what a file system knows of a project.
type ProjectQuota struct {
	Limit int64 // bytes; 0 means no limit
	Used  int64 // bytes
	Files int64 // files and directories that carry the project
}

// Commands of quotactl_fd for projects, and their structures: linux/quota.h,
// linux/dqblk_xfs.h.
const (
	projectQuota = 2 // PRJQUOTA
	getQuota     = 0x800007<<8 | projectQuota
	setQuota     = 0x800008<<8 | projectQuota
	getState     = ('X'<<8+8)<<8 | projectQuota // Q_XGETQSTATV

	stateVersion   = 1
	stateCounted   = 1 << 4
	stateEnforced  = 1 << 5
	validBlocks    = 1 // QIF_BLIMITS
	quotaBlockSize = 1024
)

type quotaBlock struct {
	hardLimit, softLimit uint64 // blocks
	space                uint64 // bytes
	inodeHardLimit       uint64
	inodeSoftLimit       uint64
	inodes               uint64
	blockTime, inodeTime uint64
	valid                uint32
	_                    uint32
}

type quotaState struct {
	version int8
	_       uint8
	flags   uint16
	_       [63]uint32 // more than the kernel writes
}

// ProjectQuotas tells what the file system of f does with projects, whatever
// its mount options say. Before Linux 5.14 it is an error, as is all below.
func ProjectQuotas(f *os.File) (QuotaState, error) {
	state := quotaState{version: stateVersion}
	err := quotactl(f, getState, 0, unsafe.Pointer(&state))
	switch {
	case errors.Is(err, unix.ENOSYS) && !haveQuotactl():
		return QuotaOff, fmt.Errorf("quotas of %s: dvold needs Linux 5.14 or later for them: %w", f.Name(), err)
	case isAnyOf(err, unix.ENOSYS, unix.EOPNOTSUPP, unix.ESRCH):
		return QuotaOff, nil
	case err != nil:
		return QuotaOff, err
	case state.flags&stateEnforced != 0:
		return QuotaEnforced, nil
	case state.flags&stateCounted != 0:
		return QuotaCounted, nil
	}
	return QuotaOff, nil
}

// QuotaOf returns what the file system of f knows of a project, which nothing
// need carry. It is an error if the file system does not count projects.
func QuotaOf(f *os.File, project uint32) (ProjectQuota, error) {
	var b quotaBlock
	err := quotactl(f, getQuota, project, unsafe.Pointer(&b))
	if errors.Is(err, unix.ENOENT) { // XFS has never heard of it
		return ProjectQuota{}, nil
	}
	if err != nil {
		return ProjectQuota{}, err
	}
	limit := min(b.hardLimit, math.MaxInt64/quotaBlockSize)
	return ProjectQuota{Limit: int64(limit * quotaBlockSize), Used: int64(b.space), Files: int64(b.inodes)}, nil
}

// SetLimit limits the bytes that files of a project take, rounded up to what
// the file system can express; 0 takes the limit away. What is too much
// already stays, and does not grow.
func SetLimit(f *os.File, project uint32, limit int64) error {
	blocks := uint64(limit) / quotaBlockSize
	if limit%quotaBlockSize != 0 && blocks < math.MaxInt64/quotaBlockSize {
		blocks++
	}
	b := quotaBlock{hardLimit: blocks, valid: validBlocks}
	return quotactl(f, setQuota, project, unsafe.Pointer(&b))
}

func quotactl(f *os.File, command uint, id uint32, addr unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command), uintptr(id), uintptr(addr), 0, 0)
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "quotactl", Path: f.Name(), Err: errno}
	}
	return nil
}

// haveQuotactl tells whether the kernel has quotactl_fd at all.
func haveQuotactl() bool {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, ^uintptr(0), getQuota, 0, 0, 0, 0)
	return errno != unix.ENOSYS
}

func isAnyOf(err error, targets ...unix.Errno) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
