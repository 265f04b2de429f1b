"""One configuration is fitted and scored here, without Ray and without MLflow."""
