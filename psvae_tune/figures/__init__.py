"""Pictures of trials and studies, movies, and the report: data in, bytes of a file out."""
