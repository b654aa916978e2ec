package fuseclient

import (
	"bytes"
	"io"
	"os"
)

// maxLog is how much of a log is read for the cause of a failure.
const maxLog = 256 << 10

// logSize is where a log ends; a missing one is empty.
func logSize(log string) int64 {
	info, err := os.Stat(log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logSince is what was written to a log since that had size from.
func logSince(log string, from int64) string {
	f, err := os.Open(log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() < from { // rotated
		from = 0
	}
	var text bytes.Buffer
	_, _ = io.Copy(&text, io.NewSectionReader(f, from, maxLog)) // what can't be read tells nothing
	return text.String()
}
