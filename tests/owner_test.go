package tests

import (
	"os"
	"syscall"
)

// ownerOf returns the id of a file's owner.
func ownerOf(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
