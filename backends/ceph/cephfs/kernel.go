package cephfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// What Client may be, or empty: see usesKernel.
const (
	clientKernel = "kernel"
	clientFUSE   = "fuse"
)

// kernelType is what mount tables call the file system of the kernel's client.
const kernelType = "ceph"

// ownOption has a mount be a client by itself.
const ownOption = "noshare"

// usesKernel tells whether what is mounted next is mounted by the kernel's client. A pool
// that ceph-fuse serves goes on with it, unless the configuration says otherwise.
//
// Exclusive volumes the kernel's client serves only if it is asked to, or there is no
// other. A fence ends its sessions in the midst of writing; one that has lost its session
// and does not know yet that it is refused tells of what it can't write down any more,
// such as the new size of a file, that it was flushed.
func (p *Pool) usesKernel(exclusive bool) (bool, error) {
	if p.config.Client != "" {
		return p.config.Client == clientKernel, nil
	}
	if _, err := exec.LookPath(kind().Program); exclusive && err == nil {
		return false, nil
	}
	if len(p.config.Cluster.Monitors) == 0 || !kernelHas() {
		return false, nil
	}
	running, err := kind().Below(p.dir)
	for point := range running {
		if strings.HasPrefix(point, sharedKey+".") {
			return false, err
		}
	}
	return true, err
}

// kernelHas tells whether this kernel has a client, or a module of one that it loads when
// that is asked for.
func kernelHas() bool {
	if text, err := os.ReadFile("/proc/filesystems"); err == nil && slices.Contains(strings.Fields(string(text)), kernelType) {
		return true
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	modules, err := os.ReadFile(filepath.Join("/lib/modules", unix.ByteSliceToString(name.Release[:]), "modules.dep"))
	return err == nil && strings.Contains(string(modules), "/fs/ceph/ceph.ko")
}

// mountKernel mounts a directory of the pool, "" being all of it, at point, which it
// makes. It is bounded by mount_timeout; a call that takes longer than ctx is left behind,
// see upkeep.Attempts, and what it may yet mount is taken away again.
func (p *Pool) mountKernel(ctx context.Context, below, point string, own bool) error {
	monitors, mode, err := p.config.Cluster.KernelMonitors(ctx)
	if err != nil {
		return err
	}
	options := []string{"name=" + p.config.Cluster.User, fmt.Sprintf("mount_timeout=%d", max(1, p.config.MountTimeout/time.Second))}
	if mode != "" {
		options = append(options, mode)
	}
	if p.config.FileSystem != "" {
		options = append(options, "mds_namespace="+p.config.FileSystem)
	}
	if own {
		options = append(options, ownOption)
	} else { // one that was taken for dead begins anew
		options = append(options, "recover_session=clean")
	}
	try := func() error {
		if err := os.Mkdir(point, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := p.callMountPatiently(ctx, monitors+":"+p.pathOf(below), point, strings.Join(options, ",")); err != nil {
			return errors.Join(p.explainMount(below, err), host.RemoveMountpoint(point))
		}
		return nil
	}
	undo := func() {
		_ = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		_ = os.Remove(point)
	}
	return p.mounts.Do(ctx, point, try, undo)
}

// pathOf is the path of what lies in the pool in the file system.
func (p *Pool) pathOf(below string) string { return path.Join("/", p.config.Subdir, below) }

// lagTime is how long it is tried to mount, at most, while no MDS is there for that. The
// monitors call one laggy whose last sign of life is late, and the kernel gives up at once
// then (ceph_mdsmap_is_cluster_available), as it does if there is no such file system.
const lagTime = 5 * time.Second

// callMountPatiently is callMount, again and again in that time, or half of what there is
// for a mount, so that the reason can be told.
func (p *Pool) callMountPatiently(ctx context.Context, source, point, options string) error {
	patience := min(lagTime, p.config.MountTimeout/2)
	for began := time.Now(); ; {
		err := p.callMount(source, point, options)
		if !errors.Is(err, unix.EHOSTUNREACH) || time.Since(began) > patience {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// callMount is mount(2), by a thread that has the key.
func (p *Pool) callMount(source, point, options string) error {
	runtime.LockOSThread() // whose keyring it is
	defer runtime.UnlockOSThread()
	key, forget, err := p.config.Cluster.AddKernelKey()
	if err != nil {
		return err
	}
	defer forget()
	return os.NewSyscallError("mount", unix.Mount(source, point, kernelType, unix.MS_NOSUID|unix.MS_NODEV, options+",key="+key))
}

// explainMount says what an error of mount(2) means.
func (p *Pool) explainMount(below string, err error) error {
	c := p.config.Cluster
	name := p.spec("").name()
	reason := ""
	switch {
	case !errors.As(err, new(*os.SyscallError)):
		return err
	case errors.Is(err, unix.ENOENT) && below != "":
		return fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	case errors.Is(err, unix.ENOENT):
		reason = fmt.Sprintf("%s has no directory %s: %s; or there is no such file system", name, p.pathOf(""), p.config.remedy())
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		reason = fmt.Sprintf("the cluster refuses the key of client.%s in %s, or its caps do not allow %s, or its directory %s: see ceph fs authorize", c.User, c.KeyringPath(), name, p.pathOf(""))
	case errors.Is(err, unix.ENODEV):
		reason = "this kernel has no client of CephFS: set client to fuse"
	case errors.Is(err, unix.EHOSTUNREACH):
		reason = fmt.Sprintf("no MDS of %s is up, or there is no such file system, or the cluster refuses the key of client.%s in %s: see ceph fs status, and dmesg", name, c.User, c.KeyringPath())
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EIO), errors.Is(err, unix.ESHUTDOWN):
		reason = fmt.Sprintf("no monitor answers (%s), or no MDS of %s: see ceph fs status", c.Hosts(), name)
	default:
		reason = "see dmesg"
	}
	return fmt.Errorf("%s: %v: %w", reason, err, backends.ErrUnavailable) // and nobody explains it once more
}

// showsKernel tells whether a mount by the kernel's client is one of what lies there in
// the pool's file system, and nothing less; of a sub-volume, the data in it will do.
func (p *Pool) showsKernel(m *mountinfo.Info, below string) bool {
	_, at, ok := strings.Cut(m.Source, ":/")
	return ok && m.FSType == kernelType && (m.Root == "/" || p.config.SubvolumeGroup != "" && path.Dir(m.Root) == "/") && "/"+at == p.pathOf(below) && host.HasOption(m.VFSOptions, "name="+p.config.Cluster.User) &&
		(p.config.FileSystem == "" || host.HasOption(m.VFSOptions, "mds_namespace="+p.config.FileSystem))
}

// clientID is the number of the client that has mounted what dir lies in.
func clientID(dir string) (string, error) {
	const attr = "ceph.client_id"
	text := make([]byte, 64)
	n, err := unix.Getxattr(dir, attr, text)
	if err != nil {
		return "", &os.PathError{Op: "getxattr " + attr, Path: dir, Err: err}
	}
	return strings.TrimPrefix(string(text[:n]), "client"), nil
}

// kernelStatus is what the MDS say of the client that has mounted what dir lies in.
func (p *Pool) kernelStatus(ctx context.Context, dir string) (status, error) {
	f := p.fencing.Load()
	if f == nil {
		return status{}, fmt.Errorf("there is no fencer to ask")
	}
	id, err := clientID(dir)
	if err != nil {
		return status{}, err
	}
	return f.statusOf(ctx, id)
}

// kernelClient is the pool as what is asked whether its storage answers.
func kernelClient(point string) *fuseclient.Client { return &fuseclient.Client{Mountpoint: point} }
