package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/lab"
)

// Images that are compared. The first is the baseline.
const (
	byHand    = "image mounted by hand"
	byHandToo = "another image mounted by hand"
	viaImage  = "volume that is an image"
)

// What is measured of their mounts.
const (
	imageMount  = "Mount + Unmount of a volume that is an image"
	imageAtHand = "rbd-fuse + losetup + mount, and all of that undone"
)

// imageStage measures volumes that are images, inside a host where dvold runs.
func imageStage(ctx context.Context) (r results, err error) {
	dvol, s := plugin{newClient(pluginSocket)}, series{}
	hands := []*handImage{{name: "hand-0", dir: "/run/hand-0"}, {name: "hand-1", dir: "/run/hand-1"}}
	defer func() {
		for _, i := range hands {
			err = errors.Join(err, i.unmount())
		}
	}()
	for _, i := range hands {
		if err := i.make(ctx); err != nil {
			return r, err
		}
	}
	const name = "io-image"
	if err := dvol.createAs(ctx, name, map[string]string{"pool": imagePool, "access": "exclusive"}); err != nil {
		return r, err
	}
	for range 10 {
		for _, step := range []struct {
			what string
			do   func() error
		}{
			{imageMount, func() error { return dvol.use(ctx, name, mountID(1)) }},
			{imageAtHand, func() error { return errors.Join(hands[0].unmount(), hands[0].mount(ctx)) }},
		} {
			if err := s.time(step.what, step.do); err != nil {
				return r, err
			}
		}
	}
	at, err := dvol.mountpoint(ctx, name, mountID(1))
	if err != nil {
		return r, err
	}
	var sides []*side
	for n, w := range []struct{ name, dir string }{{byHand, hands[0].mountpoint()}, {byHandToo, hands[1].mountpoint()}, {viaImage, at}} {
		side, err := newSide(w.name, w.dir, n)
		if err != nil {
			return r, err
		}
		sides = append(sides, side)
	}
	rows, err := s.compare(sides, byHand, viaImage)
	r.Rows = append([]row{s.row(imageMount, imageAtHand)}, rows...)
	if err != nil {
		return r, err
	}
	return r, dvol.unmount(ctx, name, mountID(1))
}

// handImage is an image with a file system, made and mounted without dvold, by
// the same means.
type handImage struct {
	name, dir string
	loop      string // empty while it is not mounted
}

func (i *handImage) mountpoint() string { return filepath.Join(i.dir, "fs") }
func (i *handImage) file() string       { return filepath.Join(i.dir, "image", i.name) }

// make makes the image and mounts it.
func (i *handImage) make(ctx context.Context) error {
	for _, dir := range []string{i.dir, i.mountpoint(), filepath.Dir(i.file())} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if _, err := command(ctx, "rbd", "--id", lab.CephUser, "create", "--size", "512M", i.name); err != nil {
		return err
	}
	if err := i.attach(ctx); err != nil {
		return err
	}
	if _, err := command(ctx, "mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", i.loop); err != nil {
		return err
	}
	return unix.Mount(i.loop, i.mountpoint(), "ext4", 0, "errors=remount-ro")
}

func (i *handImage) mount(ctx context.Context) error {
	if err := i.attach(ctx); err != nil {
		return err
	}
	return unix.Mount(i.loop, i.mountpoint(), "ext4", 0, "errors=remount-ro")
}

func (i *handImage) attach(ctx context.Context) (err error) {
	if _, err := command(ctx, append(imageClient(i.name), filepath.Dir(i.file()))...); err != nil {
		return err
	}
	i.loop, err = command(ctx, "losetup", "--find", "--show", i.file())
	return err
}

// unmount undoes mount, if that was done.
func (i *handImage) unmount() error {
	if i.loop == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := unix.Unmount(i.mountpoint(), 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // not mounted
		return &os.PathError{Op: "unmount", Path: i.mountpoint(), Err: err}
	}
	if _, err := command(ctx, "losetup", "--detach", i.loop); err != nil {
		return err
	}
	i.loop = ""
	for { // the loop device lets go of the file a moment later
		err := unix.Unmount(filepath.Dir(i.file()), 0)
		if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil {
			return err
		}
		pause(ctx, time.Millisecond)
	}
}

// command runs a command and returns what it prints.
func command(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
