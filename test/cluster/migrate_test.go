package cluster_test

import "github.com/dvol/dvold/test/lab"

// testMigrate brings volumes of the first host's Docker to pools, with all that is in them: the
// second host finds it.
func (c *cluster) testMigrate(pools ...string) {
	const make = `cd /data && mkdir dir && echo hello >dir/file && ln dir/file link && ln -s dir/file symlink && mkfifo pipe &&
touch -d @981173106 dir/file && chown 70:71 dir/file && chmod 4750 dir/file && chmod 2770 dir`
	const look = `cd /data && cat link && readlink symlink && stat -c '%h %u %g %a %Y' dir/file && stat -c %F pipe && stat -c %a dir`
	const want = "hello\ndir/file\n2 70 71 4750 981173106\nfifo\n2770"
	h := c.h(1)
	for _, pool := range pools {
		name := "old-" + pool
		_, err := h.RunToEnd(h.ctx, lab.Container{Binds: []string{name + ":/data"}, Driver: "local", Command: []string{"sh", "-c", make}})
		h.must(err)
		args := []string{"migrate", "docker-local", "--docker-root", h.Path("docker"), "--pool", pool, name}
		if pool == "images" { // which have sizes
			args = append(args, "--size", "96M")
		}
		h.dvold(args...)
		if size := h.inspect(name).Size; pool == "images" && size != 96<<20 {
			c.t.Errorf("pool %s: size %d, want 96M", pool, size)
		}
		h.docker("volume", "rm", name)
		if got := c.h(2).sh(name, look); got != want {
			c.t.Errorf("pool %s: got\n%s\nwant\n%s", pool, got, want)
		}
		c.h(2).docker("volume", "rm", name)
	}
}
