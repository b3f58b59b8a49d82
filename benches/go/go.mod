module sessiond/benches

go 1.23
