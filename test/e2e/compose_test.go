package e2e_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

const composeFile = `
version: "3.4"
services:
  writer:
    image: ` + lab.BusyBox + `
    command: ["sh", "-c", "` + beat + `"]
    stop_signal: KILL
    network_mode: none
    volumes: ["shared:/data"]
  reader:
    image: ` + lab.BusyBox + `
    command: ["tail", "-F", "/data/beats"]
    stop_signal: KILL
    network_mode: none
    volumes: ["shared:/data:ro"]
volumes:
  shared:
    driver: dvol
    name: team-data
    driver_opts: {mode: "0750"}
`

func TestComposeServicesShareVolume(t *testing.T) {
	h := sharedHost(t)
	if _, err := exec.LookPath("docker-compose"); err != nil {
		if slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), "docker") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	file := h.scratch("compose.yml")
	h.must(os.WriteFile(file, []byte(composeFile), 0o644))
	compose := func(args ...string) {
		t.Helper()
		_, err := h.Exec(h.ctx, append([]string{"docker-compose", "-p", "project", "-f", file}, args...)...)
		h.must(err)
	}
	compose("up", "-d")
	h.eventually("reader's log", func() bool { return strings.Contains(h.docker("logs", "project_reader_1"), "x\nx") })
	want(t, "driver", h.docker("volume", "inspect", "team-data", "--format", "{{.Driver}} {{.Options.mode}}"), "dvol 0750")
	h.wantMounts(1)
	compose("up", "-d") // again
	compose("restart")
	h.wantBeating("project_writer_1")
	compose("down")
	h.wantMounts(0)
	want(t, "volumes", h.volumes(), "team-data")
	compose("up", "-d")
	h.wantBeating("project_writer_1")
	compose("down", "-v")
	want(t, "volumes", h.volumes(), "")
}
