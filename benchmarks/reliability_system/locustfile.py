from locust import FastHttpUser, task


class Visitor(FastHttpUser):
    @task
    def with_back(self) -> None:
        self.client.get("/with-back")

    @task
    def with_aside(self) -> None:
        self.client.get("/with-aside")
