//go:build ceph && cgo

package rbd

import "testing"

// A client whose address begins as ours does, or ends so, is another.
func TestHasAddress(t *testing.T) {
	for _, own := range []string{
		"10.0.0.7:0/2816492101", "v1:10.0.0.7:0/2816492101", "[v2:10.0.0.7:0/2816492101,v1:10.0.0.7:0/2816492101]", "any:10.0.0.7:0/2816492101",
	} {
		for a, want := range map[string]bool{
			"10.0.0.7:0/2816492101": true, "10.0.0.7:0/281649210": false, "0.0.0.7:0/2816492101": false, "10.0.0.7:0/28164921012": false, "": false,
		} {
			if got := hasAddress(own, a); got != want {
				t.Errorf("%s has %q: %t", own, a, got)
			}
		}
	}
	for _, own := range []string{"[fd00::7]:0/28", "v2:[fd00::7]:0/28", "[v2:[fd00::7]:0/28,v1:[fd00::7]:0/29]"} {
		if !hasAddress(own, "[fd00::7]:0/28") || hasAddress(own, "[fd00::7]:0/2") {
			t.Errorf("%s does not have its own address, or another's", own)
		}
	}
}
