//! The whole gate over the local bus, with real sockets.

use bytes::Bytes;
use tidegate::{Gate, Guests, Service, Tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn echo(body: Bytes) -> Bytes {
    body
}

#[tokio::test]
async fn echo_over_tcp() {
    for shards in [0, 1, 2] {
        let gate = Gate::builder()
            .listen(Tcp::bind("127.0.0.1:0"))
            .service(Service::new("echo").request("echo", echo).open_to(Guests))
            .shards(shards)
            .start()
            .await
            .unwrap();
        let mut client = TcpStream::connect(gate.address(0).unwrap()).await.unwrap();
        let frame = b"\x14\x00\x0b\x00echo/echo/1hello";
        for _ in 0..3 {
            client.write_all(frame).await.unwrap();
            let mut answer = [0; 20];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, frame);
        }
        gate.stop().await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
