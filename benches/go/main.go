// The session check as a Go service of a few lines would give it: grpc-go with its defaults over a map, messages of the same
// sizes as sessiond's. Benchmarks compare sessiond with it.
//
// Writes its address and a token that it knows, then serves.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "sessiond/benches/authv1"
)

type service struct {
	pb.UnimplementedAuthServiceServer
	mutex    sync.RWMutex
	sessions map[[sha256.Size]byte]*pb.UserIdForSessionResponse
}

