package main

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// systemd must not kill dvold while it ends in good order: it would leave the cluster without a word.
func TestUnitWaitsForTheEnd(t *testing.T) {
	unit, err := os.ReadFile("../../packaging/systemd/dvold.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("the unit has no TimeoutStopSec in seconds")
	}
	limit, err := time.ParseDuration(string(found[1]) + "s")
	if need := drainTime + closeTime + leaveTime; err != nil || limit < need+10*time.Second {
		t.Errorf("systemd waits for %v, %v; an end takes as long as %v", limit, err, need)
	}
}
