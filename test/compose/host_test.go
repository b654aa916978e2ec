package compose_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/test/lab"
)

// patience bounds every wait for something that should happen soon.
const patience = 60 * time.Second

// project is the name that compose puts in front of what docker-compose.yml
// describes.
const project = "dvol"

// root is the directory of the repository.
const root = "../.."

// built is a directory for what the tests build, removed after all of them.
var built string

// dvold builds the binary that is in the image, once.
var dvold = sync.OnceValues(func() (string, error) { return lab.BuildDvold(built, false) })

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	var err error
	if built, err = os.MkdirTemp("", "compose"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built)
	return m.Run()
}

// host is a lab.Host with the files of a checkout in which "make build" ran.
type host struct {
	*lab.Host
	t *testing.T
}

// newHost starts the engine of a host, puts the files there, with a .env that
// says env, and loads the images.
func newHost(t *testing.T, l *lab.Host, env map[string]string) *host {
	t.Helper()
	h := &host{l, t}
	h.must(l.StartDocker(t.Context()))
	h.must(l.Image(t.Context()))
	h.docker("tag", lab.BusyBox, "busybox")
	h.must(os.MkdirAll(h.file("bin"), 0o755))
	for _, name := range []string{"docker-compose.yml", "Dockerfile", ".dockerignore"} {
		h.copy(filepath.Join(root, name), h.file(name), 0o644)
	}
	binary, err := dvold()
	h.must(err)
	h.copy(binary, h.file("bin/dvold"), 0o755)

	h.loadConsul()
	settings := "CONSUL_IMAGE=lab/consul\nDVOL_PRIVILEGED=false\nDVOL_STATE_DIR=" + h.StateDir() + "\n"
	for _, name := range slices.Sorted(maps.Keys(env)) {
		settings += name + "=" + env[name] + "\n"
	}
	h.must(os.WriteFile(h.file(".env"), []byte(settings), 0o644))
	t.Cleanup(func() {
		if t.Failed() {
			h.showLogs()
		}
	})
	return h
}

// loadConsul makes the image lab/consul, of the binary and what it is linked to.
func (h *host) loadConsul() {
	h.t.Helper()
	image := h.Path("consul-image")
	binary := consultest.Binary(h.t)
	linked, err := exec.Command("ldd", binary).Output()
	if err != nil {
		linked = nil // it is static
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(linked), -1) {
		h.must(os.MkdirAll(filepath.Join(image, filepath.Dir(library)), 0o755))
		h.copy(library, filepath.Join(image, library), 0o755)
	}
	h.must(os.MkdirAll(filepath.Join(image, "bin"), 0o755))
	h.copy(binary, filepath.Join(image, "bin/consul"), 0o755)
	dockerfile := "FROM scratch\nCOPY . /\nENTRYPOINT [\"/bin/consul\"]\n"
	h.must(os.WriteFile(filepath.Join(image, "Dockerfile"), []byte(dockerfile), 0o644))
	h.docker("build", "-q", "-t", "lab/consul", image)
	h.must(os.RemoveAll(image))
}

// need skips the test on an error, or lets it fail if the word is among those
// of DVOLD_TEST_REQUIRE.
func need(t *testing.T, word string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), word):
		t.Fatalf("%s is required, but not there: %v", word, err)
	default:
		t.Skipf("the test needs %s: %v", word, err)
	}
}

// needCompose is need for docker-compose.
func needCompose(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("docker-compose")
	need(t, "docker", err)
}

// file is where a file of the checkout lies on the host.
func (h *host) file(name string) string { return h.Path(filepath.Join("dvol-checkout", name)) }

func (h *host) copy(from, to string, mode os.FileMode) {
	h.t.Helper()
	in, err := os.Open(from)
	h.must(err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	h.must(err)
	_, err = io.Copy(out, in)
	h.must(errors.Join(err, out.Close()))
}

// compose runs docker-compose with a file that must succeed.
func (h *host) compose(file string, args ...string) string {
	h.t.Helper()
	return h.exec(append([]string{"docker-compose", "--ansi", "never", "-p", project, "-f", file}, args...)...)
}

// up brings dvold and Consul up and waits until the host is in the cluster.
func (h *host) up() {
	h.t.Helper()
	h.compose(h.file("docker-compose.yml"), "up", "-d")
	h.waitForDvold()
}

// waitForDvold waits until dvold is in the cluster, as docker-compose.yml says.
func (h *host) waitForDvold() {
	h.t.Helper()
	live := regexp.MustCompile(`(?m)^` + h.Name() + ` +yes\b`)
	var out string
	var err error
	h.eventually("hosts of the cluster", func() bool {
		out, err = h.Exec(h.t.Context(), "docker", "exec", project+"_dvold_1", "dvold", "host", "ls")
		return err == nil && live.MatchString(out)
	}, func() any { return fmt.Sprint(out, err) })
}

// dvold runs an operator's command in the container.
func (h *host) dvold(args ...string) string {
	h.t.Helper()
	return h.compose(h.file("docker-compose.yml"), append([]string{"exec", "-T", "dvold", "dvold"}, args...)...)
}

// sh runs a script in a new container with the volume at /data.
func (h *host) sh(volume, script string) string {
	h.t.Helper()
	return h.docker("run", "--rm", "--volume-driver", "dvol", "--volume", volume+":/data", lab.BusyBox, "sh", "-c", script)
}

func (h *host) docker(args ...string) string {
	h.t.Helper()
	return h.exec(append([]string{"docker"}, args...)...)
}

func (h *host) exec(argv ...string) string {
	h.t.Helper()
	out, err := h.Exec(h.t.Context(), argv...)
	h.must(err)
	return out
}

// wantMounts waits until n volumes are mounted, as the host sees it.
func (h *host) wantMounts(n int) {
	h.t.Helper()
	var mounts []string
	h.eventually("number of mounts", func() bool {
		var err error
		mounts, err = h.Mounts("/run/dvol/mnt")
		h.must(err)
		return len(mounts) == n
	}, func() any { return mounts })
}

// eventually waits for cond to become true, and shows the state if it doesn't.
func (h *host) eventually(what string, cond func() bool, state func() any) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: not as wanted within %v: %v", what, patience, state())
		}
	}
}

// showLogs shows what the containers have logged. The test's context has ended.
func (h *host) showLogs() {
	for _, service := range []string{"dvold", "consul"} {
		cmd := exec.Command("docker", "-H", "unix://"+h.Path("run/docker.sock"), "logs", "--tail", "60", project+"_"+service+"_1")
		out, _ := cmd.CombinedOutput()
		h.t.Logf("--- %s in a container on %s ---\n%s", service, h.Name(), out)
	}
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// want compares an output.
func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}
