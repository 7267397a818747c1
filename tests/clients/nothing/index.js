// deliberately empty
