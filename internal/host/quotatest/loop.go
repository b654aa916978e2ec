package quotatest

import (
	"os"
	"testing"
)

// Loop returns a loop device that shows a file until it is closed.
func Loop(t testing.TB, file *os.File) *os.File {
	t.Helper()
	device, err := attach(file)
	if err != nil {
		t.Fatalf("loop device: %v", err)
	}
	return device
}
