DROP TABLE project_repositories, files, orchestrations;
