package nfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// kerberosModules are what the guest needs besides, with IP version 6.
var kerberosModules = append(slices.Clone(clientModules), "lib/crc-ccitt", "net/ipv6/ipv6", "lib/oid_registry", "net/sunrpc/auth_gss/auth_rpcgss", "crypto/hmac", "crypto/cbc", "crypto/ecb",
	"crypto/cts", "net/sunrpc/auth_gss/rpcsec_gss_krb5")

// nas is the name of the server, and of the host, which are one, and address6 another address.
const (
	nas      = "nas.dvol.test"
	address6 = "fd00::1"
)

// An export for Kerberos alone serves a host that has a key: to whom the key belongs is root.
// And a server has addresses of IP version 6.
func TestKerberosAndIPv6(t *testing.T) {
	hosttest.Root(t)
	for _, command := range []string{"ganesha.nfsd", "rpcbind", "krb5kdc", "kadmin.local", "rpc.gssd"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	if !guesttest.Inside() {
		t.Parallel()
		guesttest.Guest{Load: kerberosModules}.Run(t)
		return
	}
	prepare(t)
	addAddress(t)
	run(t, "ip", "address", "add", address6+"/128", "dev", "lo", "nodad")
	dir := hosttest.Tmpfs(t, "mode=755")
	keytab := startRealm(t, dir)
	exported, open := hosttest.Subdir(t, dir, "exported"), hosttest.Subdir(t, dir, "open")
	newGanesha(t, dir, address, nil, export{path: exported, options: "SecType = krb5, krb5i, krb5p;",
		more: fmt.Sprintf("NFS_KRB5 { PrincipalName = nfs; KeytabPath = %s; Active_krb5 = true; CCacheDir = %s; }\n", keytab, hosttest.Subdir(t, dir, "tickets"))}, export{path: open})
	pool := func(t *testing.T, sec string) nfs.Config {
		c := newPool(t, exported, "4.2")
		c.Server, c.Sec = nas, sec
		return c
	}
	wantRefused(t, "without rpc.gssd", pool(t, "krb5"), "rpc.gssd(8) must run, with a keytab")
	startGssd(t, dir, keytab)
	for _, sec := range []string{"krb5", "krb5i", "krb5p"} {
		t.Run(sec, func(t *testing.T) { testLife(t, pool(t, sec)) })
	}
	wantRefused(t, "sec=sys", pool(t, "sys"), "the server exports no ")
	for _, version := range []string{"", "3"} {
		t.Run("IPv6/"+version, func(t *testing.T) {
			c := newPool(t, open, version)
			c.Server = address6
			testLife(t, c)
		})
	}
	t.Run("Users", func(t *testing.T) { testKerberosUsers(t, pool(t, "krb5p")) })
}

// A user that has no ticket gets at nothing, whoever owns the volume; one that is root does.
func testKerberosUsers(t *testing.T, c nfs.Config) {
	p := openPool(t, hosttest.Dir(t), c)
	uid := 1234
	v := create(t, p, backends.Request{UID: &uid})
	target := mount(t, p, v.Handle, backends.MountOptions{})
	touch := func(user uint32) error {
		cmd := exec.Command("touch", filepath.Join(target, fmt.Sprint("by-", user)))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	if err := touch(0); err != nil {
		t.Errorf("by root: %v", err)
	}
	if err := touch(1234); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("by the owner, who has no ticket: got %v", err)
	}
	unmount(t, p, v.Handle, target)
}

// startRealm starts a KDC with a key for the server and the host, and returns the keytab. It
// takes the place of what this machine knows of names and realms.
func startRealm(t *testing.T, dir string) (keytab string) {
	t.Helper()
	if err := unix.Sethostname([]byte(nas)); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hosts := file("hosts", "127.0.0.1 localhost\n"+address+" "+nas+"\n")
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KRB5RCACHEDIR", dir)
	t.Setenv("KRB5_CONFIG", file("krb5.conf", `[libdefaults]
  default_realm = DVOL.TEST
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
[realms]
  DVOL.TEST = {
    kdc = `+address+`
  }
[domain_realm]
  `+nas+` = DVOL.TEST
`))
	t.Setenv("KRB5_KDC_PROFILE", file("kdc.conf", fmt.Sprintf(`[kdcdefaults]
  kdc_listen = %[1]s:88
  kdc_tcp_listen = %[1]s:88
[realms]
  DVOL.TEST = {
    database_name = %[2]s/principal
    key_stash_file = %[2]s/stash
    acl_file = %[2]s/acl
    supported_enctypes = aes256-cts-hmac-sha1-96:normal
  }
`, address, dir)))
	keytab = filepath.Join(dir, "keytab")
	run(t, "kdb5_util", "create", "-s", "-P", "of the realm", "-r", "DVOL.TEST")
	run(t, "kadmin.local", "-q", "addprinc -randkey nfs/"+nas)
	run(t, "kadmin.local", "-q", "ktadd -k "+keytab+" nfs/"+nas)
	start(t, "krb5kdc", "-n", "-P", filepath.Join(dir, "kdc.pid"))
	return keytab
}

// startGssd starts what gets tickets for the kernel, and waits until that can ask it.
func startGssd(t *testing.T, dir, keytab string) {
	t.Helper()
	pipes := hosttest.Subdir(t, dir, "pipes")
	if err := unix.Mount("pipes", pipes, "rpc_pipefs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(pipes, unix.MNT_DETACH) })
	gssd := start(t, "rpc.gssd", "-f", "-p", pipes, "-k", keytab, "-d", hosttest.Subdir(t, dir, "caches"))
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", gssd.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(open, func(fd string) bool {
			file, err := os.Readlink(fd)
			return err == nil && strings.HasPrefix(file, pipes) && filepath.Base(file) == "gssd"
		}) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("rpc.gssd does not come up")
		}
	}
}
