module example.com/t

go 1.24.0
