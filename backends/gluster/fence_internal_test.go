package gluster

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// glusterd is a gluster(8) that tells of one brick, which the host 10.0.0.2 enters anew after
// its first end, and writes to by a call that the brick carries out later.
const glusterd = `#!/bin/sh
dir=$(dirname "$0")
count() { echo >>"$dir/$1"; wc -l <"$dir/$1"; }
ok='<cliOutput><opRet>0</opRet><opErrno>0</opErrno>'
case "$*" in
*clients)
    client=
    case $(count clients) in 2 | 3) client='<client><hostname>10.0.0.2:1000</hostname></client>' ;; esac
    echo "$ok<volStatus><volumes><volume><node><hostname>h</hostname><path>/b</path><status>1</status><clientsStatus>$client</clientsStatus></node></volume></volumes></volStatus></cliOutput>" ;;
*callpool)
    printf 'Brick : h:/b\n'
    [ "$(wc -l <"$dir/clients")" -ge 2 ] || exit 0
    if [ "$(count calls)" -lt 3 ]; then printf ' PID : 1\n Unique : 7\n'; else touch "$dir/done"; fi ;;
*)
    echo "$ok<volInfo><volumes><volume><name>gv0</name><id>1</id><bricks><brick><name>h:/b</name></brick></bricks><options><option><name>auth.reject</name><value>10.0.0.2</value></option></options></volume></volumes></volInfo></cliOutput>" ;;
esac
`

// A fence waits also for what a brick read of a host that it had let in anew meanwhile.
func TestFenceOfSecondStay(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	program := filepath.Join(dir, "gluster")
	if err := os.WriteFile(program, []byte(glusterd), 0o700); err != nil {
		t.Fatal(err)
	}
	p := FencingPool{&Pool{manage: management{[]string{program}, 10 * time.Second}}}
	info := volumeInfo{Name: "gv0", Bricks: []brick{{"h:/b"}}}
	if err := p.prove(t.Context(), target{volume: "gv0", address: netip.MustParseAddr("10.0.0.2")}, info); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil {
		t.Errorf("a call of its second stay is under way still: %v", err)
	}
}
