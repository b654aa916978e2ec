// Package imports_test holds the module to its import direction.
package imports_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dvol/dvold/"

// allowed says what the packages of a part may import of the other parts;
// docs/architecture.md gives the reasons. The longest name that fits counts. A
// name that ends in a slash is everything below it, and "" is everything.
var allowed = map[string][]string{
	"cmd/":                    {""},
	"hack/":                   {""},
	"test/":                   {""},
	"test/model":              {"internal/standing"},
	"internal/dockerapi":      {"internal/volumes", "backends", "coordination", "internal/host"},
	"internal/adminapi":       {"internal/migrate", "internal/volumes", "backends", "coordination", "internal/host"},
	"internal/migrate":        {"internal/volumes", "backends", "internal/hang", "internal/host"},
	"internal/volumes":        {"backends", "coordination", "internal/cut", "internal/guard", "internal/host", "internal/standing"},
	"internal/cut":            {"internal/hang", "internal/host"},
	"internal/guard":          {"internal/cut", "internal/host", "internal/program"},
	"internal/config":         {},
	"internal/standing":       {},
	"internal/host":           {},
	"internal/hang":           {},
	"internal/program":        {"internal/hang"},
	"internal/host/hosttest":  {"internal/host"},
	"internal/host/guest":     {},
	"internal/host/guesttest": {"internal/host/guest", "internal/host/hosttest"},
	"internal/host/quotatest": {"internal/host/guesttest", "internal/host/hosttest"},
	"backends":                {},
	"backends/":               {"backends", "internal/hang", "internal/host", "internal/program", "internal/upkeep"},
	"internal/fuseclient":     {"backends", "internal/host", "internal/program", "internal/upkeep"},
	"internal/upkeep":         {"backends", "internal/hang"},
	"backends/gluster":        {"backends", "backends/local", "internal/fuseclient", "internal/host", "internal/program"},
	"backends/ceph/cephfs":    {"backends", "backends/ceph", "backends/local", "internal/fuseclient", "internal/host", "internal/upkeep"},
	"backends/nfs":            {"backends", "backends/local", "internal/host", "internal/upkeep"},
	"backends/ceph":           {"backends"},
	"backends/ceph/cephtest":  {"backends/ceph", "internal/host/guesttest", "internal/host/hosttest"},
	"backends/ceph/rbd":       {"backends", "backends/ceph", "backends/local", "internal/fuseclient", "internal/hang", "internal/host", "internal/program", "internal/upkeep"},
	"backends/backendtest":    {"backends", "internal/host", "internal/host/hosttest"},
	"coordination":            {},
	"coordination/":           {"coordination"},
	"coordination/coordtest":  {"coordination"},
}

// dockerImporters are the only packages that may know the plugin protocol.
var dockerImporters = []string{"cmd/", "internal/dockerapi", "hack/", "test/"}

func TestDirection(t *testing.T) {
	for pkg, imports := range packages(t) {
		part, ok := partOf(pkg)
		if !ok {
			t.Errorf("%s is in no part: add it to the table with what it may import", pkg)
			continue
		}
		for _, imported := range imports {
			if name, ok := strings.CutPrefix(imported, module); ok && !fits(name, allowed[part]) {
				t.Errorf("%s imports %s; it may import %q", pkg, name, allowed[part])
			}
			if strings.HasPrefix(imported, "github.com/docker/") && !fits(pkg, dockerImporters) {
				t.Errorf("%s imports %s; only internal/dockerapi knows Docker", pkg, imported)
			}
		}
	}
}

// packages returns what each package of the module imports, tests aside.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[strings.TrimPrefix(fields[0], module)] = fields[1:]
	}
	return imports
}

// partOf returns the longest name in the table that fits the package.
func partOf(pkg string) (string, bool) {
	part, ok := "", false
	for name := range allowed {
		if fits(pkg, []string{name}) && len(name) >= len(part) {
			part, ok = name, true
		}
	}
	return part, ok
}

// fits reports whether one of the names stands for the package.
func fits(pkg string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return pkg == name || name == "" || strings.HasSuffix(name, "/") && strings.HasPrefix(pkg, name)
	})
}
