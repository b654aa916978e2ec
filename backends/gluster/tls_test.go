package gluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// write makes a directory with what GlusterFS looks for in /etc/ssl: the
// certificate of that name, its key, and the authority that is trusted.
func (a authority) write(dir, name string, trusted authority) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]pem.Block{
		"glusterfs.pem": {Type: "CERTIFICATE", Bytes: der},
		"glusterfs.key": {Type: "PRIVATE KEY", Bytes: private},
		"glusterfs.ca":  {Type: "CERTIFICATE", Bytes: trusted.cert.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// inScript runs testdata/nodes.bash.
func inScript(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("testdata/nodes.bash", args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatalf("nodes.bash %v: %v", args, err)
	}
}

// certify gives a node a certificate of a's while the test runs.
func certify(t *testing.T, node string, a authority) {
	t.Helper()
	ssl := hosttest.Dir(t)
	a.write(ssl, "server", a)
	for _, dir := range sslDirs(t) {
		do(t, node, "mount", "--bind", ssl, dir)
		t.Cleanup(func() { _ = onNode(t, node, "umount", dir).Run() }) // it may be gone
	}
}

// tlsOptions are those of a Gluster volume that speaks nothing but TLS, with the
// client of that name alone.
var tlsOptions = []string{"client.ssl", "on", "server.ssl", "on", "auth.ssl-allow", "client"}

// newTLSNode brings up g4, a node of its own at 10.98.0.44 whose glusterd speaks
// nothing but TLS. It has a certificate of a's.
func newTLSNode(t *testing.T, a authority) {
	t.Helper()
	inScript(t, "boot", "g4", "10.98.0.44")
	t.Cleanup(func() {
		for _, pid := range []int{nodeProcess(t, "g4"), nodePID(t, "g4")} {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		_ = exec.Command("ip", "link", "del", "g4").Run() // which goes with the node, a while later
		if err := os.RemoveAll(nodeDir("g4")); err != nil {
			t.Error(err)
		}
	})
	certify(t, "g4", a)
	if err := os.WriteFile(filepath.Join(nodeDir("g4"), "lib/secure-access"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inScript(t, "start", "g4")
}

// sslDirs are where a build of GlusterFS may look for certificates: where the
// OpenSSL that it was built with keeps its own.
func sslDirs(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range []string{"/etc/ssl", "/usr/lib/ssl", "/etc/pki/tls"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			all = append(all, dir)
		}
	}
	return all
}

// certificates has this host find the certificates in dir while the test runs, and
// nobody outside of this world.
func certificates(t *testing.T, dir string) {
	t.Helper()
	for _, at := range sslDirs(t) {
		if err := unix.Mount(dir, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

// volumeOf is the Gluster volume of a pool that is changed so.
func volumeOf(change func(*gluster.Config)) string {
	c := gluster.Config{Volume: "gv0"}
	change(&c)
	return c.Volume
}

// Clients speak TLS with servers that do, and say what is wrong if they can't.
func TestTLS(t *testing.T) {
	need(t)
	a, other := newAuthority(t), newAuthority(t)
	newTLSNode(t, a)
	newVolume(t, "secure", tlsOptions, "g4")
	certify(t, "g1", a)
	newVolume(t, "bricks", tlsOptions, "g1")
	tls := func(c *gluster.Config) {
		c.Servers, c.Volume, c.Subdir, c.TLS = []string{"10.98.0.44"}, "secure", "", true
	}
	bricks := func(c *gluster.Config) { c.Volume, c.Subdir = "bricks", "" }
	for _, test := range []struct {
		name, volume, node string
		change             func(*gluster.Config)
	}{{"right", "secure", "g4", tls}, {"bricks right", "bricks", "g1", bricks}} {
		t.Run(test.name, func(t *testing.T) {
			dir := hosttest.Dir(t)
			a.write(dir, "client", a)
			certificates(t, dir)
			p := newPool(t, test.change)
			shared, own := p.create("shared"), p.create("own")
			p.write(p.mount(shared, backends.MountOptions{}), "shared")
			target := p.mount(own, backends.MountOptions{Alone: true})
			p.write(target, "own")
			p.wantClients(2)
			if err := p.Unmount(t.Context(), own, target); err != nil {
				t.Fatal(err)
			}
			p.want(p.mount(own, backends.MountOptions{}), "own")
			if got := onBricks(t, test.volume, filepath.Join(own, "file"), test.node); got[0] != "own" {
				t.Errorf("the brick has %q", got[0])
			}
		})
	}
	for _, test := range []struct {
		name, want string
		prepare    func(dir string)
		change     func(*gluster.Config)
	}{
		{"no certificate", "could not load our cert at /", func(string) {}, tls},
		{"no key", "could not load private key at /", func(dir string) {
			a.write(dir, "client", a)
			if err := os.Remove(filepath.Join(dir, "glusterfs.key")); err != nil {
				t.Fatal(err)
			}
		}, tls},
		{"of another authority", "trust this host's certificate", func(dir string) { other.write(dir, "client", a) }, tls},
		{"servers not trusted", "of no authority in this host's glusterfs.ca", func(dir string) { a.write(dir, "client", other) }, tls},
		{"not allowed", "refuses this host", func(dir string) { a.write(dir, "stranger", a) }, tls},
		{"pool without", "server 10.98.0.44 hangs up", func(dir string) { a.write(dir, "client", a) }, func(c *gluster.Config) {
			tls(c)
			c.TLS = false
		}},
		{"servers without", "speaks no TLS", func(dir string) { a.write(dir, "client", a) }, func(c *gluster.Config) { c.TLS = true }},
		{"bricks without certificate", "could not load our cert at /", func(string) {}, bricks},
		// The client may end before it says that it was hung up on.
		{"bricks of another authority", "trust this host's certificate|or refuse this host", func(dir string) { other.write(dir, "client", a) }, bricks},
		{"bricks not trusted", "of no authority in this host's glusterfs.ca", func(dir string) { a.write(dir, "client", other) }, bricks},
		{"bricks not allowed", "refuses this host", func(dir string) { a.write(dir, "stranger", a) }, bricks},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := hosttest.Dir(t)
			test.prepare(dir)
			p := newPool(t, test.change) // before clients of the tests need another /etc/ssl
			certificates(t, dir)
			_, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab"})
			says := func(want string) bool { return strings.Contains(fmt.Sprint(err), want) }
			if !errors.Is(err, backends.ErrUnavailable) || !slices.ContainsFunc(strings.Split(test.want, "|"), says) || says("\n") {
				log, _ := os.ReadFile(filepath.Join(p.run, "dvol-pool-"+volumeOf(test.change)+".log"))
				t.Errorf("got %v; its client says:\n%s", err, log)
			}
			p.eventually("its clients have ended", func() bool { return len(p.clients()) == 0 }) // those that were refused do by themselves
		})
	}
}
