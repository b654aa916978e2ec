package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

const (
	nfsPool          = "nas"
	nfsServer        = "127.0.0.1"
	nfsExport        = "/tmp/nfs/export"
	nfsConfiguration = "/tmp/nfs/dvold.yaml"
)

// What is measured of mounts, besides what is of clients. The baseline is a mount for
// each volume.
const (
	nfsFirst = "Create + Mount of the first shared volume, which mounts the export"
	nfsPlain = "a mount of the export for one volume (nosharecache)"
)

// nfsWithin is the target: how long a mount of another shared volume may take.
const nfsWithin = 1.0 / 10

// nfsBench measures volumes on NFS, in a guest.
type nfsBench struct {
	ctx    context.Context
	dvol   plugin
	server *os.Process
	plain  []string // where the export is mounted for one volume each
	s      series
	results
}

// nfsStage takes all measures, with a server that it starts.
func nfsStage(ctx context.Context, d *daemon) (results, error) {
	b := &nfsBench{ctx: ctx, dvol: d.dvol, s: series{}}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return b.results, err
	}
	b.Facts = []string{"User-Mode Linux " + unix.ByteSliceToString(uname.Release[:])}
	for _, c := range [][]string{{d.argv[0], "version"}, {"ganesha.nfsd", "-v"}} {
		line, err := firstLine(ctx, c...)
		if err != nil {
			return b.results, fmt.Errorf("%s: %w", c[0], err)
		}
		b.Facts = append(b.Facts, line)
	}
	b.Facts = append(b.Facts, "the server in the same guest, with its files in memory")
	var err error
	if b.server, err = startGanesha(ctx); err != nil {
		return b.results, err
	}
	defer killServer(b.server)
	if err := d.start(ctx); err != nil {
		said, _ := os.ReadFile(d.log) // which ends with the guest
		return b.results, fmt.Errorf("%w: %s", err, said)
	}
	for _, step := range []func() error{b.mounts, b.inputOutput, b.silence, b.unmountPlain, d.stop} {
		if err := step(); err != nil {
			return b.results, err
		}
	}
	return b.results, nil
}

// startGanesha starts a server, and writes what dvold needs to find it.
func startGanesha(ctx context.Context) (*os.Process, error) {
	for _, dir := range []string{nfsExport, "/tmp/nfs/recovery", "/run/ganesha", filepath.Dir(pluginSocket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"/var/lib/nfs", "/var/log"} { // the root is read-only
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	config := fmt.Sprintf(`NFS_CORE_PARAM { NFS_Port = 2049; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; RecoveryBackend = fs; RecoveryRoot = /tmp/nfs/recovery; }
EXPORT { Export_Id = 1; Path = %[1]s; Pseudo = %[1]s; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4; Transports = TCP; FSAL { Name = VFS; } }
`, nfsExport)
	pools := fmt.Sprintf("pools:\n  %s: {type: nfs, server: %s, export: %s}\n  %s: {type: local, path: /tmp/nfs/other}\n", nfsPool, nfsServer, nfsExport, otherPool)
	for path, text := range map[string]string{"/tmp/nfs/ganesha.conf": config, nfsConfiguration: "default_pool: " + nfsPool + "\n" + pools} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("ganesha.nfsd", "-F", "-f", "/tmp/nfs/ganesha.conf", "-L", "/tmp/nfs/ganesha.log", "-p", "/tmp/nfs/ganesha.pid", "-N", "NIV_WARN")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(time.Minute); ; pause(ctx, 50*time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort(nfsServer, "2049"))
		if err == nil {
			conn.Close()
			return cmd.Process, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			killServer(cmd.Process)
			return nil, fmt.Errorf("start the server: %w", err)
		}
	}
}

func killServer(p *os.Process) {
	_ = p.Kill()
	_, _ = p.Wait() // reports the kill
}

// mounts mounts volumes, by dvold and by a mount for each, in turn. A file is written
// to each, on either side.
func (b *nfsBench) mounts() error {
	for n := range manyMounted {
		if n < asManyClients {
			if err := b.mountPlain(); err != nil {
				return err
			}
		}
		if err := b.mountShared(n); err != nil {
			return err
		}
	}
	another := b.s.row(anotherMount, nfsPlain)
	another.Within = nfsWithin
	b.Rows = append(b.Rows, b.s.row(nfsFirst, nfsPlain), another, b.s.row(manyMounts, nfsPlain))
	systems, err := nfsSystems()
	if err == nil && systems != asManyClients+1 {
		err = fmt.Errorf("%d file systems are mounted, want one of dvold's and %d others", systems, asManyClients)
	}
	b.Facts = append(b.Facts, fmt.Sprintf("%d shared volumes are one file system, mounted once", manyMounted))
	return err
}

// nfsSystems counts the file systems of NFS servers that are mounted.
func nfsSystems() (int, error) {
	mounts, err := host.Mounts()
	found := make(map[int]bool)
	for _, m := range mounts {
		if host.IsNFS(m) {
			found[m.Minor] = true
		}
	}
	return len(found), err
}

// mountPlain mounts the export once more.
func (b *nfsBench) mountPlain() error {
	dir, err := os.MkdirTemp("/tmp", "plain")
	if err != nil {
		return err
	}
	err = b.s.time(nfsPlain, func() error {
		return unix.Mount(nfsServer+":"+nfsExport, dir, "nfs", unix.MS_NOSUID|unix.MS_NODEV, "vers=4.2,proto=tcp,hard,nosharecache,addr="+nfsServer)
	})
	if err != nil {
		return os.NewSyscallError("mount", err)
	}
	b.plain = append(b.plain, dir)
	sub := filepath.Join(dir, filepath.Base(dir))
	if err := os.Mkdir(sub, 0o755); err != nil {
		return err
	}
	return writeLittle(sub)
}

func (b *nfsBench) unmountPlain() (err error) {
	for _, dir := range b.plain {
		err = errors.Join(err, unix.Unmount(dir, unix.UMOUNT_NOFOLLOW))
	}
	return err
}

// mountShared makes and mounts one shared volume more.
func (b *nfsBench) mountShared(n int) error {
	name, at := volumeName(n), ""
	mount := func() (err error) {
		at, err = b.dvol.mountpoint(b.ctx, name, mountID(n))
		return err
	}
	create := func() error { return b.dvol.create(b.ctx, name) }
	what := manyMounts
	switch {
	case n == 0:
		what = nfsFirst
		once := mount
		mount = func() error { return errors.Join(create(), once()) }
	default:
		if n < asManyClients {
			what = anotherMount
		}
		if err := create(); err != nil {
			return err
		}
	}
	if err := b.s.time(what, mount); err != nil {
		return err
	}
	return writeLittle(at)
}

// inputOutput is that of clients, through mounts.
func (b *nfsBench) inputOutput() error {
	at := make(map[string]string)
	for n, access := range []string{"shared", "exclusive"} {
		name := "io-" + access
		if err := b.dvol.createAs(b.ctx, name, map[string]string{"access": access}); err != nil {
			return err
		}
		var err error
		if at[access], err = b.dvol.mountpoint(b.ctx, name, mountID(manyMounted+n)); err != nil {
			return err
		}
	}
	dirs, err := filepath.Glob(filepath.Join(nfsExport, "volumes", "io-shared.*"))
	if err != nil || len(dirs) != 1 {
		return fmt.Errorf("the shared volume has %d directories", len(dirs))
	}
	below, err := filepath.Rel(nfsExport, dirs[0])
	if err != nil {
		return err
	}
	var sides []*side
	for n, w := range []struct{ name, dir string }{
		{viaShared, at["shared"]}, {viaExclusive, at["exclusive"]}, {direct, filepath.Join(b.plain[0], below)}, {directToo, filepath.Join(b.plain[1], below)},
	} {
		side, err := newSide(w.name, w.dir, n)
		if err != nil {
			return err
		}
		sides = append(sides, side)
	}
	rows, err := b.s.compare(sides, direct, viaShared)
	b.Rows = append(b.Rows, rows...)
	return err
}
