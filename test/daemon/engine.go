package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// image is all that an Engine can run: busybox.
const image = "busybox"

// driverSocket is where an engine finds its volume driver dvol.
const driverSocket = "/run/docker/plugins/dvol.sock"

const engineSocket = "unix:///run/docker.sock"

// Engine is a guest's Docker engine, whose containers have the daemon's volumes, and no
// network.
type Engine struct{ t *testing.T }

// Engine starts the guest's engine, which ends with the test.
func (d *Daemon) Engine() *Engine {
	d.t.Helper()
	// It writes to the latter, which is of its package.
	for dir, fs := range map[string]string{"/sys/fs/cgroup": "cgroup2", "/etc/docker": "tmpfs"} {
		if err := unix.Mount("test", dir, fs, 0, ""); err != nil {
			d.t.Fatalf("mount %s: %v", dir, err)
		}
	}
	if err := os.WriteFile(d.at("daemon.json"), []byte("{}"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	engine := exec.Command("dockerd", "--config-file", d.at("daemon.json"), "--data-root", d.at("engine"), "--exec-root", "/run/docker-exec", "--pidfile", "/run/docker.pid",
		"--host", engineSocket, "--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs", "--bridge", "none", "--iptables=false", "--ip-masq=false", "--log-level", "warn")
	engine.Stdout, engine.Stderr = os.Stdout, os.Stdout
	if err := engine.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := errors.Join(engine.Process.Signal(unix.SIGTERM), engine.Wait()); err != nil {
			d.t.Errorf("the engine ended with %v", err)
		}
	})
	e := &Engine{d.t}
	d.within("the engine answers", func() bool { return e.command("version").Run() == nil })
	e.load()
	return e
}

// load makes the image.
func (e *Engine) load() {
	e.t.Helper()
	program, err := exec.LookPath("busybox")
	if err != nil {
		e.t.Fatal(err)
	}
	root := exec.Command("tar", "--create", "--dereference", "--directory", filepath.Dir(program), "--transform", "s,^,bin/,", "busybox")
	contents, err := root.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	load := e.command("import", "-", image)
	load.Stdin = contents
	if err := root.Start(); err != nil {
		e.t.Fatal(err)
	}
	out, err := load.CombinedOutput()
	if err = errors.Join(err, root.Wait()); err != nil {
		e.t.Fatalf("make an image: %v: %s", err, out)
	}
}

func (e *Engine) command(args ...string) *exec.Cmd {
	return exec.Command("docker", append([]string{"--host", engineSocket}, args...)...)
}

// Docker runs a docker command that has to succeed, and returns what it says.
func (e *Engine) Docker(args ...string) string {
	e.t.Helper()
	out, err := e.command(args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Run has a shell of a container carry out a script, with a volume at /data, and returns
// what it says.
func (e *Engine) Run(volume, script string) string {
	e.t.Helper()
	return e.Docker(append([]string{"run", "--rm"}, container(volume, script)...)...)
}

// Start is Run in the background, in a container of that name.
func (e *Engine) Start(name, volume, script string) {
	e.t.Helper()
	e.Docker(append([]string{"run", "--detach", "--name", name}, container(volume, script)...)...)
}

func container(volume, script string) []string {
	return []string{"--network", "none", "--volume-driver", "dvol", "--volume", volume + ":/data", image, "/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && " + script}
}
