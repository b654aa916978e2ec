package cluster_test

// dvold is killed, and stopped for an upgrade, under a running container.
func testRestartDvold(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	h2.start("box", beat, "store:/data")
	for what, stop := range map[string]func() error{"killed": h2.KillDvold, "stopped": h2.StopDvold} {
		before := h1.sees("h2").Incarnation
		h2.must(stop())
		h1.dockerFails([]string{`"h2"`}, "volume", "rm", "store")
		h2.must(h2.StartDvold(h2.ctx))
		m := h1.sees("h2")
		if !m.Live || m.Incarnation <= before || m.Holds != 1 {
			c.t.Errorf("h2 = %+v after dvold was %s, want it live and greater than incarnation %d", m, what, before)
		}
		h1.wantHolders("store", "h2")
		h2.wantMounts(1)
		c.wantBeating("store")
	}
	c.wantNoGap("store")
}

func testTwoOfOneName(c *cluster) {
	h1, h3 := c.h(1), c.h(3)
	before := h1.sees("h1")
	_, err := h3.Exec(h3.ctx, h3.DvoldCommand("--host", "h1", "--state-dir", h3.Path("twin"), "--run-dir", "/run/twin",
		"--docker-socket", "/run/twin.sock", "--admin-socket", "/run/twin-admin.sock")...)
	h3.fails("dvold of the same name", err, "another machine of that name", "is live")
	after := h3.sees("h1")
	before.ThisHost = after.ThisHost
	want(c.t, "h1", after, before)
	h1.sh("store", "true")
}
