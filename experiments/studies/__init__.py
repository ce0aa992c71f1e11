"""The studies: each a package that exports a `harness.study.Study`."""
