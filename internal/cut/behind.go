package cut

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dvol/dvold/internal/host"
)

// loopMajor is that of loop devices; see the kernel's devices.txt.
const loopMajor = 7

// Behind is what a loop device shows, with a file system that is a volume's alone on
// it: a file that a process serves, for that volume alone, too. If the process hangs
// so does the volume, and everybody who has it.
type Behind struct {
	File   string `json:"file"`   // as the kernel has it for the device, in this mount namespace
	Device string `json:"device"` // of its file system, as in the mount table
}

// behind returns what lies behind a device, or nil if that is no file that a process
// serves. It asks neither the device nor the process.
func behind(major, minor int) (*Behind, error) {
	if major != loopMajor {
		return nil, nil
	}
	file, err := host.BackingFile(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return nil, ignoreVanished(err)
	}
	b := Behind{File: file}
	m, err := host.MountedAt(filepath.Dir(b.File))
	if err != nil || m == nil || m.Major != 0 || !isFUSE(m.FSType) {
		return nil, err
	}
	b.Device = fmt.Sprintf("%d:%d", m.Major, m.Minor)
	return &b, nil
}

func ignoreVanished(err error) error {
	if vanished(err) {
		return nil
	}
	return err
}

// served returns the FUSE connection behind a target, if the volume says that there is
// one and it is still the same. Another volume's may have got its number.
func (r *run) served(t target) (connection int, ok bool, err error) {
	if !t.sole || r.v.Behind == nil || t.device() != r.v.Device {
		return 0, false, nil
	}
	now, err := behind(t.major, t.minor)
	if err != nil || now == nil || *now != *r.v.Behind {
		return 0, false, err
	}
	connection, err = strconv.Atoi(strings.TrimPrefix(now.Device, "0:"))
	return connection, err == nil, err
}

// endBehind ends what serves the file behind a target: what hangs because of it fails
// from then on, such as an attempt to shut the file system down.
func (r *run) endBehind(ctx context.Context, t target) error {
	connection, ok, err := r.served(t)
	if err != nil || !ok || r.shut[r.v.Behind.Device] {
		return err
	}
	inode, err := r.c.connections.inode(connection)
	if err != nil || inode == 0 {
		return err
	}
	if err := r.abort(ctx, "end what is behind "+t.String(), connection); err != nil {
		return err
	}
	device := r.v.Behind.Device
	r.shut[device] = true
	r.note(func(report *Report) { report.ShutDown = append(report.ShutDown, device) })
	r.log.Info("what is behind the file system was ended", "volume", r.v.ID, "device", device, "file", r.v.Behind.File)
	return nil
}
