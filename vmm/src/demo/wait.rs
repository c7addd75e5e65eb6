//! Waiting for something that somebody else does: looked for again and again, up to a limit.

use std::time::{Duration, Instant};

use super::DemoError;

/// From one look to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks until there is something, or fails with what was waited for. Looks once at least.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() >= limit;
        if let Some(found) = look()? {
            return Ok(found);
        }
        if late {
            return Err(DemoError::TimedOut {
                what: what.to_owned(),
                waited: limit,
            });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_happen_is_named() {
        let never = until("a miracle", Duration::from_millis(1), || Ok(None::<()>)).await;
        assert!(
            never
                .expect_err("it never happens")
                .to_string()
                .contains("a miracle")
        );
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.await.expect("it happens"), 3);
    }
}
