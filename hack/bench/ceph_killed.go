package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// What is measured of a host that is killed, beside Consul.
const (
	takenImage  = "kill -9 of all of a host, until another has written durably, image (RBD)"
	takenFiles  = "kill -9 of all of a host, until another has written durably, CephFS"
	takenNative = "kill -9 of all of a host, until another writes to its image without dvold (rbd-fuse)"
	sinceSeen   = "from then on, " // of the former
)

// maxSinceSeen is the target for what dvold takes from Consul's word on.
const maxSinceSeen = 3 * time.Second

// cephScene has a pool of images and one in a CephFS, on a cluster of three nodes.
// What has been written is read by who has the volume.
func cephScene() scene {
	return scene{
		name: "ceph",
		lab:  lab.ClusterOptions{Ceph: true},
		config: fmt.Sprintf("coordination: {type: consul, lease_ttl: %v}\nguard: {cut_time: %v, reboot_command: %s}\n%s",
			exclusiveTTL, cutTime, lab.RebootCommand, cephPools()),
		atOnce:  1, // ten daemons
		start:   func(ctx context.Context, c *lab.Cluster) error { return c.StartCeph(ctx) },
		victims: []victim{{imagePool, "image-db", takenImage}, {filePool, "files-db", takenFiles}},
		text: func(b *exclusiveBench, v victim, h writer) (string, error) {
			text, err := h.Docker(b.ctx, "exec", v.name, "cat", "/data/beats")
			return text + "\n", err
		},
		native: nativeImage,
	}
}

// nativeImage has h1 write to an image by rbd-fuse alone, as dvold has it started.
func nativeImage(b *exclusiveBench) (takeOver func() (time.Duration, error), err error) {
	const image, dir = "native", "/run/native"
	h1, h2 := b.hosts[0], b.hosts[1]
	write := func(ctx context.Context, h writer) error {
		_, err := h.Exec(ctx, "dd", "if=/dev/zero", "of="+dir+"/"+image, "bs=4k", "count=1", "conv=notrunc,fsync")
		return err
	}
	if _, err := h1.Exec(b.ctx, "rbd", "--id", lab.CephUser, "create", "--size", "64M", image); err != nil {
		return nil, err
	}
	if err := showImage(b.ctx, h1.Host, image, dir); err != nil {
		return nil, err
	}
	if err := write(b.ctx, h1); err != nil {
		return nil, err
	}
	return func() (time.Duration, error) {
		if err := showImage(b.ctx, h2.Host, image, dir); err != nil {
			return 0, err
		}
		err := b.until(2*maxLeased, func(ctx context.Context) error { return write(ctx, h2) })
		return lab.SinceBoot(), err
	}, nil
}

// showImage has rbd-fuse show an image as a file in a new directory of a host.
func showImage(ctx context.Context, h *lab.Host, image, dir string) error {
	if _, err := h.Exec(ctx, "mkdir", dir); err != nil {
		return err
	}
	_, err := h.Exec(ctx, append(imageClient(image), dir)...)
	return err
}

// imageClient is rbd-fuse with the options that dvold has it started with.
func imageClient(image string) []string {
	return []string{"rbd-fuse", "--id=" + lab.CephUser, "--log-file=", "--admin-socket=", "--rbd-cache=false", "-o", "attr_timeout=0", "-p", lab.CephPool, "-r", image}
}

// addSinceSeen adds what a takeover takes from Consul's word on.
func (s series) addSinceSeen() {
	for _, what := range []string{takenImage, takenFiles} {
		for i, took := range s[what] {
			s[sinceSeen+what] = append(s[sinceSeen+what], took-s[failureSeen][i])
		}
	}
}

// cephKilledRows compares with Consul, and with a takeover without dvold.
func cephKilledRows(s series) []row {
	s.addSinceSeen()
	var rows []row
	for _, what := range []string{takenImage, takenFiles} {
		r := s.row(what, failureSeen)
		r.Most, r.Why = maxFenced, "Consul's detection + fence + start"
		after := row{What: sinceSeen + what, Took: s[sinceSeen+what], Most: maxSinceSeen, Why: "fence 2 s + start"}
		rows = append(rows, r, after)
	}
	return append(rows, s.row(takenImage, takenNative))
}
